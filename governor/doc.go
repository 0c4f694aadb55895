// Package governor keeps the accuracy as high as the hardware of the moment allows: it predicts what each level
// of a library would take now and picks the most accurate one that meets the deadline.
package governor
