// Package profile measures the latency table of a device. It runs whole networks through an [Engine] that also tells
// the time of their layers, so every layer is measured where it works: behind the layer before it, with the caches as
// a run leaves them. [Run] does it all: it measures until the intervals are narrow, learns what the plain sums of
// layers miss, compares predictions with networks it did not learn from, and saves the table.
//
// A round visits every resolution in random order, with as many networks as there are pairs of kernel size and expand
// ratio, each pair once in every slot (a Latin design), so a few rounds hold dozens of samples of every key. Depths
// are drawn. One network, the anchor, is measured in between all the time; what it says of the machine's speed is
// divided out. A measurement during which something else had the CPU is marked dirty and repeated; dirty samples
// count only where there are hardly any others.
package profile
