package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func encodePNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pngOfSize returns a PNG whose header promises w x h grey pixels, and no more.
func pngOfSize(w, h uint32) []byte {
	head := append([]byte("IHDR"), make([]byte, 13)...)
	binary.BigEndian.PutUint32(head[4:], w)
	binary.BigEndian.PutUint32(head[8:], h)
	head[12] = 8
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
	return append(out, "\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"...)
}

func TestDecodeErrors(t *testing.T) {
	good := encodePNG(t, noise(1, 20, 10))
	jpg := encodeJPEG(t, noise(1, 20, 10))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	scans := bytes.Join([][]byte{jpg[:len(jpg)-2], bytes.Repeat([]byte{0xff, 0xda, 0, 0}, 200)}, nil)
	for _, c := range []struct {
		name string
		data []byte
		cfg  *Config
		want error
		text []string // besides the name
	}{
		{"empty", nil, nil, ErrFormat, []string{"an empty file", "want PNG or JPEG"}},
		{"text", []byte("hello, world"), nil, ErrFormat, []string{`"hello, w"`}},
		{"gif", []byte("GIF89a..."), nil, ErrFormat, []string{"found GIF"}},
		{"webp", []byte("RIFF....WEBPVP8 "), nil, ErrFormat, []string{"found WebP"}},
		{"bmp", []byte("BM......"), nil, ErrFormat, []string{"found BMP"}},
		{"idx", []byte("\x00\x00\x08\x03...."), nil, ErrFormat, []string{"found an IDX file"}},
		{"png signature", good[:8], nil, ErrFormat, []string{"damaged PNG header"}},
		{"png cut", good[:len(good)-20], nil, ErrFormat, []string{"damaged PNG"}},
		{"png flipped", flipped, nil, ErrFormat, []string{"damaged PNG"}},
		{"png no data", pngOfSize(4, 4), nil, ErrFormat, []string{"damaged PNG"}},
		{"png huge", pngOfSize(16_000, 16_000), nil, ErrLimit, []string{"16000 x 16000", "at most 67108864"}},
		{"png wide", pngOfSize(1<<28-1, 1), nil, ErrLimit, []string{"268435455 x 1"}},
		{"png zero", pngOfSize(0, 4), nil, ErrFormat, []string{"damaged PNG"}},
		{"pixel limit", good, &Config{MaxPixels: 199}, ErrLimit, []string{"20 x 10", "at most 199"}},
		{"byte limit", good, &Config{MaxBytes: 100}, ErrLimit, []string{"more than 100 bytes"}},
		{"jpeg signature", jpg[:4], nil, ErrFormat, []string{"damaged JPEG header"}},
		{"jpeg cut", jpg[:len(jpg)-30], nil, ErrFormat, []string{"damaged JPEG"}},
		{"jpeg limit", jpg, &Config{MaxPixels: 10}, ErrLimit, []string{"JPEG of 20 x 10"}},
		{"jpeg scans", scans, nil, ErrLimit, []string{"201 scans", "at most 128"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "picture.png")
			writeFile(t, path, c.data)
			img, err := Decode("in memory", bytes.NewReader(c.data), c.cfg)
			if !errors.Is(err, c.want) || img != nil {
				t.Fatalf("Decode: %v, error %v, want %v", img, err, c.want)
			}
			for _, text := range append(c.text, "in memory") {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("Decode: error %q does not say %q", err, text)
				}
			}
			if _, err := DecodeFile(path, c.cfg); !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("DecodeFile: error %v, want %v naming %s", err, c.want, path)
			}
		})
	}
}

func TestDecodeLimitsAreInclusive(t *testing.T) {
	data := encodePNG(t, noise(1, 20, 10))
	img, err := Decode("a", bytes.NewReader(data), &Config{MaxPixels: 200, MaxBytes: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(allRGB(t, img), lcg(1, 600)) {
		t.Error("pixels differ")
	}
}

func TestDecodeReadError(t *testing.T) {
	want := errors.New("disk on fire")
	if _, err := Decode("a", io.MultiReader(strings.NewReader("\x89PNG"), errReader{want}), nil); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestDecodeFileKinds(t *testing.T) {
	dir := t.TempDir()
	if _, err := DecodeFile(dir, nil); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := DecodeFile(filepath.Join(dir, "none.png"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	loop := filepath.Join(dir, "loop.png")
	if err := os.Symlink("loop.png", loop); err != nil {
		t.Skipf("SKIPPED: no symbolic links here: %v", err)
	}
	if _, err := DecodeFile(loop, nil); err == nil {
		t.Error("a link to itself was decoded")
	}
	if _, err := DecodeFile(os.DevNull, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("device: %v", err)
	}
}
