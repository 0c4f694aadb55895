package imageio

import (
	"fmt"
	"image"
	"image/color"
)

// converter turns rows of an image into RGB bytes as Pillow's convert("RGB")
// does: alpha is dropped and never blended; 16-bit colour keeps its high byte;
// 16-bit grey is clipped to 0..255 (sic); CMYK uses Pillow's rounding.
type converter struct {
	palette [256][3]uint8
	cb, cr  []uint8 // one row of chroma at full width
	sum     []int32 // one row of chroma columns, blended vertically
}

// checkImage reports whether row can read img: a known type whose buffers reach
// to the last pixel of its bounds.
func checkImage(img image.Image) error {
	if img == nil {
		return fmt.Errorf("image is nil: %w", ErrArgument)
	}
	var ok bool
	last := img.Bounds().Max.Sub(image.Pt(1, 1))
	switch m := img.(type) {
	case *image.Gray:
		ok = reaches(m.Pix, m.Stride, m.Rect, 1)
	case *image.Gray16:
		ok = reaches(m.Pix, m.Stride, m.Rect, 2)
	case *image.RGBA:
		ok = reaches(m.Pix, m.Stride, m.Rect, 4)
	case *image.NRGBA:
		ok = reaches(m.Pix, m.Stride, m.Rect, 4)
	case *image.RGBA64:
		ok = reaches(m.Pix, m.Stride, m.Rect, 8)
	case *image.NRGBA64:
		ok = reaches(m.Pix, m.Stride, m.Rect, 8)
	case *image.CMYK:
		ok = reaches(m.Pix, m.Stride, m.Rect, 4)
	case *image.Paletted:
		ok = reaches(m.Pix, m.Stride, m.Rect, 1)
	case *image.YCbCr:
		ok = reachesYCbCr(m, last)
	case *image.NYCbCrA:
		ok = reachesYCbCr(&m.YCbCr, last)
	default:
		return fmt.Errorf("no conversion of %T (color model %T) to RGB: %w", img, img.ColorModel(), ErrColorModel)
	}
	if !ok {
		return fmt.Errorf("buffers of %T are too short for bounds %v: %w", img, img.Bounds(), ErrArgument)
	}
	return nil
}

func reaches(pix []uint8, stride int, b image.Rectangle, bytes int) bool {
	if b.Empty() {
		return true // refused later, with its size
	}
	return stride >= b.Dx()*bytes && len(pix) >= (b.Dy()-1)*stride+b.Dx()*bytes
}

func reachesYCbCr(m *image.YCbCr, last image.Point) bool {
	if m.Rect.Empty() {
		return true
	}
	w, h := chromaSize(m)
	c := (h-1)*m.CStride + w
	return reaches(m.Y, m.YStride, m.Rect, 1) && m.CStride >= w && len(m.Cb) >= c && len(m.Cr) >= c &&
		m.COffset(last.X, last.Y) < c
}

// reset prepares for the rows of one image.
func (cv *converter) reset(img image.Image) {
	m, ok := img.(*image.Paletted)
	if !ok {
		return
	}
	cv.palette = [256][3]uint8{} // an index beyond the palette is black (newer Pillow; 9.4: grey)
	for i, c := range m.Palette[:min(len(m.Palette), 256)] {
		switch c := c.(type) { // the two kinds the PNG decoder makes do not allocate
		case color.RGBA:
			cv.palette[i] = straight(c.R, c.G, c.B, c.A)
		case color.NRGBA:
			cv.palette[i] = [3]uint8{c.R, c.G, c.B}
		default:
			if c != nil {
				n, _ := color.NRGBAModel.Convert(c).(color.NRGBA)
				cv.palette[i] = [3]uint8{n.R, n.G, n.B}
			}
		}
	}
}

// row writes the pixels x0..x1-1 of row y as RGB to dst, both counted from the
// upper left corner of img's bounds. img has passed checkImage.
func (cv *converter) row(dst []uint8, img image.Image, y, x0, x1 int) {
	n := x1 - x0
	dst = dst[:n*3]
	switch m := img.(type) {
	case *image.Gray:
		for i, v := range m.Pix[y*m.Stride+x0:][:n] {
			put(dst, i, v, v, v)
		}
	case *image.Gray16:
		p := m.Pix[y*m.Stride+x0*2:][:n*2]
		for i := range n {
			v := p[i*2+1]
			if p[i*2] != 0 {
				v = 255
			}
			put(dst, i, v, v, v)
		}
	case *image.RGBA:
		p := m.Pix[y*m.Stride+x0*4:][:n*4]
		for i := range n {
			q := p[i*4:][:4:4]
			if q[3] == 255 {
				put(dst, i, q[0], q[1], q[2])
				continue
			}
			c := straight(q[0], q[1], q[2], q[3])
			put(dst, i, c[0], c[1], c[2])
		}
	case *image.NRGBA:
		p := m.Pix[y*m.Stride+x0*4:][:n*4]
		for i := range n {
			q := p[i*4:][:4:4]
			put(dst, i, q[0], q[1], q[2])
		}
	case *image.RGBA64:
		p := m.Pix[y*m.Stride+x0*8:][:n*8]
		for i := range n {
			q := p[i*8:][:8:8]
			if q[6] == 255 && q[7] == 255 {
				put(dst, i, q[0], q[2], q[4])
				continue
			}
			a := uint32(q[6])<<8 | uint32(q[7])
			put(dst, i, straight16(q[0], q[1], a), straight16(q[2], q[3], a), straight16(q[4], q[5], a))
		}
	case *image.NRGBA64:
		p := m.Pix[y*m.Stride+x0*8:][:n*8]
		for i := range n {
			q := p[i*8:][:8:8]
			put(dst, i, q[0], q[2], q[4])
		}
	case *image.CMYK:
		p := m.Pix[y*m.Stride+x0*4:][:n*4]
		for i := range n {
			q := p[i*4:][:4:4]
			put(dst, i, ink(q[0], q[3]), ink(q[1], q[3]), ink(q[2], q[3]))
		}
	case *image.Paletted:
		for i, v := range m.Pix[y*m.Stride+x0:][:n] {
			c := &cv.palette[v]
			put(dst, i, c[0], c[1], c[2])
		}
	case *image.YCbCr:
		cv.ycbcr(dst, m, y, x0, x1)
	case *image.NYCbCrA:
		cv.ycbcr(dst, &m.YCbCr, y, x0, x1)
	}
}

func put(dst []uint8, i int, r, g, b uint8) {
	d := dst[i*3:][:3:3]
	d[0], d[1], d[2] = r, g, b
}

// straight undoes the multiplication by alpha, as color.NRGBAModel does. Fully
// transparent pixels have lost their colour and are black.
func straight(r, g, b, a uint8) [3]uint8 {
	if a == 255 || a == 0 {
		return [3]uint8{r, g, b}
	}
	div := func(v uint8) uint8 {
		return uint8(min(uint32(v)*0x101*0xffff/(uint32(a)*0x101), 0xffff) >> 8)
	}
	return [3]uint8{div(r), div(g), div(b)}
}

// straight16 is straight for one 16-bit channel; it returns the high byte.
func straight16(hi, lo uint8, a uint32) uint8 {
	if a == 0 {
		return hi
	}
	return uint8(min((uint32(hi)<<8|uint32(lo))*0xffff/a, 0xffff) >> 8)
}

// ink is one channel of Pillow's CMYK to RGB: (255-k) minus v*(255-k)/255,
// rounded.
func ink(v, k uint8) uint8 {
	white := 255 - uint32(k)
	t := uint32(v)*white + 128
	return uint8(white - (t>>8+t)>>8)
}

// ycbcr converts one row with libjpeg's fixed-point arithmetic (JFIF, 16
// fractional bits), which differs from color.YCbCrToRGB by at most one.
func (cv *converter) ycbcr(dst []uint8, m *image.YCbCr, y, x0, x1 int) {
	cv.cb = grow(cv.cb, x1-x0)
	cv.cr = grow(cv.cr, x1-x0)
	cv.upsample(cv.cb, m, m.Cb, y, x0)
	cv.upsample(cv.cr, m, m.Cr, y, x0)
	const half = 1 << 15
	for i, l := range m.Y[y*m.YStride+x0:][:x1-x0] {
		v, cb, cr := int32(l), int32(cv.cb[i])-128, int32(cv.cr[i])-128
		put(dst, i,
			clamp(v+(91881*cr+half)>>16),
			clamp(v+(-22554*cb-46802*cr+half)>>16),
			clamp(v+(116130*cb+half)>>16))
	}
}

func clamp(v int32) uint8 { return uint8(max(0, min(v, 255))) }

// chromaSize returns the size of the chroma planes, as image.NewYCbCr lays them
// out.
func chromaSize(m *image.YCbCr) (w, h int) {
	dx, dy := chromaRatio(m)
	b := m.Rect
	return (b.Max.X+dx-1)/dx - b.Min.X/dx, (b.Max.Y+dy-1)/dy - b.Min.Y/dy
}

// chromaRatio returns how many luma samples one chroma sample covers.
func chromaRatio(m *image.YCbCr) (dx, dy int) {
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// upsample writes the chroma of row y from column x0 on at full width, as
// libjpeg's default does: ratios of two by a triangle filter (3/4 of the nearer
// sample, 1/4 of the farther, edges repeated), with rounding that alternates
// between neighbours; all other ratios, and planes of at most two columns, by
// repeating samples.
func (cv *converter) upsample(dst []uint8, m *image.YCbCr, plane []uint8, y, x0 int) {
	dx, dy := chromaRatio(m)
	w, h := chromaSize(m)
	// Absolute coordinates, so that a sub-image meets the same samples. Clamping
	// keeps negative ones, where division rounds the other way, in range.
	ay, ax, offset := y+m.Rect.Min.Y, x0+m.Rect.Min.X, m.Rect.Min.X/dx
	cy := bound(ay/dy-m.Rect.Min.Y/dy, h)
	near := plane[cy*m.CStride:][:w]

	tall := dy == 2 && (dx == 1 || dx == 2 && w > 2)
	far := near
	if tall {
		far = plane[bound(cy-1+ay&1*2, h)*m.CStride:][:w]
	}
	switch {
	case dx == 1 && dy == 1:
		copy(dst, near[x0:])
	case tall && dx == 1:
		bias := 1 + int32(ay&1)
		for i := range dst {
			k := bound(ax+i-offset, w)
			dst[i] = uint8((3*int32(near[k]) + int32(far[k]) + bias) >> 2)
		}
	case tall: // 2 x 2: vertically first, without rounding
		cv.sum = grow(cv.sum, w)
		first, last := max(ax/2-offset-1, 0), min((ax+len(dst))/2-offset+2, w)
		for k := first; k < last; k++ {
			cv.sum[k] = 3*int32(near[k]) + int32(far[k])
		}
		for i := range dst {
			odd := (ax + i) & 1
			k := bound((ax+i)/2-offset, w)
			o := bound(k-1+odd*2, w)
			dst[i] = uint8((3*cv.sum[k] + cv.sum[o] + 8 - int32(odd)) >> 4)
		}
	case dx == 2 && dy == 1 && w > 2:
		for i := range dst {
			odd := (ax + i) & 1
			k := bound((ax+i)/2-offset, w)
			o := bound(k-1+odd*2, w)
			dst[i] = uint8((3*int32(near[k]) + int32(near[o]) + 1 + int32(odd)) >> 2)
		}
	default:
		for i := range dst {
			dst[i] = near[bound((ax+i)/dx-offset, w)]
		}
	}
}

// bound clamps an index to 0..n-1.
func bound(i, n int) int { return max(0, min(i, n-1)) }
