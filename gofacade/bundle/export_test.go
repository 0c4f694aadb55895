package bundle

// What the tests of this folder reach beyond the public names.
var (
	Encode       = encode
	ParseBundle  = parseBundle
	ParseLibrary = parseLibrary
	ImportBytes  = importBytes
)
