package imageio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"strings"
)

// Config bounds what decoding may cost. The zero value and nil mean the
// defaults.
type Config struct {
	// MaxPixels is the largest width*height that is decoded; 0 means
	// [DefaultMaxPixels]. Decoding holds 2 to 8 bytes a pixel as a rule, 24 at
	// worst (progressive CMYK).
	MaxPixels int64 `json:"max_pixels"`
	// MaxBytes is the largest file that is read; 0 means [DefaultMaxBytes].
	MaxBytes int64 `json:"max_bytes"`
}

// The limits of a zero [Config].
const (
	DefaultMaxPixels = 1 << 26 // 67 million
	DefaultMaxBytes  = 1 << 28
)

// maxScans bounds the passes of a progressive JPEG: each may cost little of the
// file and visit every block. Encoders write about ten.
const maxScans = 128

func (c *Config) limits() (pixels, size int64) {
	pixels, size = DefaultMaxPixels, DefaultMaxBytes
	if c != nil && c.MaxPixels > 0 {
		pixels = c.MaxPixels
	}
	if c != nil && c.MaxBytes > 0 {
		size = c.MaxBytes
	}
	return pixels, size
}

// DecodeFile reads a PNG or JPEG file; the content decides, not the name. Errors
// name the file; they wrap [ErrFormat], [ErrLimit] or what the file system said.
// Safe for use by several goroutines.
func DecodeFile(path string, cfg *Config) (image.Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("imageio: decode: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return nil, fmt.Errorf("imageio: decode %s: found %s, want a regular file: %w", path, fileKind(info.Mode()), ErrFormat)
	}
	if _, limit := cfg.limits(); info.Size() > limit {
		return nil, fmt.Errorf("imageio: decode %s: file has %d bytes, want at most %d: %w", path, info.Size(), limit, ErrLimit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("imageio: decode: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing can be lost
	return Decode(path, f, cfg)
}

// Decode reads a PNG or JPEG image from r; name is used in errors only. Width
// and height are checked before pixels are allocated. Errors are those of
// [DecodeFile].
//
// The result is one of the image types that [Transform] accepts. The EXIF
// orientation is not applied.
func Decode(name string, r io.Reader, cfg *Config) (image.Image, error) {
	maxPixels, maxBytes := cfg.limits()
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("imageio: decode %s: %w", name, err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("imageio: decode %s: more than %d bytes: %w", name, maxBytes, ErrLimit)
	}
	var (
		format string
		config func(io.Reader) (image.Config, error)
		decode func(io.Reader) (image.Image, error)
	)
	switch format = sniff(data); format {
	case "PNG":
		config, decode = png.DecodeConfig, png.Decode
	case "JPEG":
		config, decode = jpeg.DecodeConfig, jpeg.Decode
		// Within coded data 0xff is followed by a zero, so this counts passes,
		// and perhaps those of a thumbnail.
		if n := bytes.Count(data, []byte{0xff, 0xda}); n > maxScans {
			return nil, fmt.Errorf("imageio: decode %s: JPEG with %d scans, want at most %d: %w", name, n, maxScans, ErrLimit)
		}
	default:
		return nil, fmt.Errorf("imageio: decode %s: found %s, want PNG or JPEG: %w", name, format, ErrFormat)
	}
	c, err := config(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("imageio: decode %s: damaged %s header: %w: %w", name, format, ErrFormat, err)
	}
	if c.Width < 1 || c.Height < 1 {
		return nil, fmt.Errorf("imageio: decode %s: %s of %d x %d pixels, want at least 1 x 1: %w", name, format, c.Width, c.Height, ErrFormat)
	}
	if int64(c.Width) > maxPixels/int64(c.Height) {
		return nil, fmt.Errorf("imageio: decode %s: %s of %d x %d pixels, want at most %d in all: %w",
			name, format, c.Width, c.Height, maxPixels, ErrLimit)
	}
	img, err := decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("imageio: decode %s: damaged %s: %w: %w", name, format, ErrFormat, err)
	}
	if m, ok := img.(*image.NRGBA64); ok && format == "PNG" && isGrey16(data) {
		return grey16(m), nil
	}
	return img, nil
}

// isGrey16 reports whether a PNG has 16-bit grey pixels without alpha channel.
// The header is the first chunk: depth at byte 24, colour type at byte 25.
func isGrey16(data []byte) bool { return len(data) > 25 && data[24] == 16 && data[25] == 0 }

// grey16 undoes what image/png does to 16-bit grey with a transparent value: it
// becomes colour with alpha, and Pillow converts the two kinds differently.
func grey16(m *image.NRGBA64) *image.Gray16 {
	b := m.Bounds()
	g := image.NewGray16(b)
	for y := range b.Dy() {
		src, dst := m.Pix[y*m.Stride:], g.Pix[y*g.Stride:]
		for x := range b.Dx() {
			dst[x*2], dst[x*2+1] = src[x*8], src[x*8+1]
		}
	}
	return g
}

// sniff names the format of a file by its first bytes.
func sniff(data []byte) string {
	head := string(data[:min(len(data), 16)])
	for _, f := range []struct{ magic, name string }{
		{"\x89PNG\r\n\x1a\n", "PNG"},
		{"\xff\xd8\xff", "JPEG"},
		{"GIF8", "GIF"},
		{"BM", "BMP"},
		{"II*\x00", "TIFF"},
		{"MM\x00*", "TIFF"},
		{"P5", "PGM"},
		{"P6", "PPM"},
		{"\x1f\x8b", "gzip data"},
	} {
		if strings.HasPrefix(head, f.magic) {
			return f.name
		}
	}
	switch {
	case len(data) == 0:
		return "an empty file"
	case len(data) >= 12 && head[:4] == "RIFF" && head[8:12] == "WEBP":
		return "WebP"
	case len(data) >= 4 && binary.BigEndian.Uint16(data) == 0 && data[2] == 8 && data[3] <= 4:
		return "an IDX file"
	}
	return fmt.Sprintf("unknown data starting with %q", head[:min(len(head), 8)])
}

func fileKind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a pipe"
	case m&os.ModeDevice != 0:
		return "a device"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}
