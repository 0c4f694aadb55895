// Package imageio turns image files into network input, exactly as the
// PyTorch validation pipeline does, and opens labelled image sets.
//
// The parts, in the way of the data:
//
//   - [Decode] and [DecodeFile] read PNG and JPEG with bounded memory.
//   - [Transform] resizes, crops and normalises. Its 8-bit result equals that of
//     Pillow bit for bit, its float32 result that of torchvision.
//   - [Dataset] is a labelled image set: [OpenImageFolder] (one folder a class),
//     [OpenIDX] (the MNIST format), or [Open], which looks and decides.
//
// # What equals Pillow, and what does not
//
// Conversion to RGB, resizing and cropping are exact. PNG decoding is exact.
// JPEG decoding is not pinned by any standard: it leaves the inverse DCT a
// tolerance and says nothing about how subsampled chroma is enlarged. Here the
// inverse DCT is that of image/jpeg; chroma is enlarged and converted as
// libjpeg-turbo does it by default ("fancy" upsampling). TestJPEGDifference
// measures what remains; README.md has the numbers.
//
// The EXIF orientation tag is ignored, as torchvision's loader ignores it: the
// network sees the pixels as they are stored. Colour profiles, gamma and
// transparency are ignored for the same reason.
package imageio
