// Package purego is the engine in plain Go: it needs no C compiler, runs wherever Go does, and is what every
// other engine is compared with end to end.
//
// Maps are NHWC. A [Model] holds the supernet's weights packed once, for the maximum; a [Plan] describes one
// Subnet by prefixes and strides into that packing and adds nothing but its batch normalisation; a [Session]
// executes plans in an arena sized once. Matrix products are gonum's. Work is cut into tiles that do not
// depend on the number of threads, so neither does any bit of the result.
package purego
