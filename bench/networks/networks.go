// Package networks names the networks that speed is measured on: eight sub-networks of OFA-MobileNetV3.
package networks

import "github.com/dynofa/dynofa/gofacade/ofa"

// Network is one sub-network of a space.
type Network struct {
	Name   string
	Space  *ofa.Space
	Subnet ofa.Subnet
}

// Eight lists the networks from small to large: the smallest (at 160 pixels) and the largest of width 1.0 around the six levels
// of the library nets_6 of Dynamic-OFA (Lou et al. 2021), which are of width 1.2.
func Eight() []Network {
	w10, w12 := ofa.MobileNetV3(1.0, 1000), ofa.MobileNetV3(1.2, 1000)
	smallest := w10.Smallest()
	smallest.Resolution = 160
	list := []Network{{"w10_min", w10, smallest}}
	for _, n := range nets6 {
		list = append(list, Network{n.name, w12, n.subnet})
	}
	return append(list, Network{"w10_max", w10, w10.Largest()})
}

var nets6 = []struct {
	name   string
	subnet ofa.Subnet
}{
	{"w12_n0", ofa.Subnet{
		Kernels: []int{5, 7, 7, 7, 3, 5, 5, 7, 7, 7, 5, 3, 5, 3, 3, 7, 3, 3, 7, 7},
		Expands: []int{6, 4, 4, 6, 4, 3, 6, 4, 6, 4, 4, 6, 4, 6, 4, 6, 4, 3, 3, 4},
		Depths:  []int{3, 2, 3, 2, 2}, Resolution: 176,
	}},
	{"w12_n1", ofa.Subnet{
		Kernels: []int{7, 3, 5, 7, 7, 3, 5, 7, 5, 7, 5, 3, 5, 3, 3, 5, 3, 3, 3, 7},
		Expands: []int{6, 4, 4, 4, 4, 6, 6, 6, 3, 3, 4, 6, 4, 6, 6, 3, 4, 3, 3, 3},
		Depths:  []int{3, 2, 3, 3, 2}, Resolution: 176,
	}},
	{"w12_n2", ofa.Subnet{
		Kernels: []int{5, 5, 7, 3, 7, 7, 7, 3, 7, 7, 7, 5, 7, 7, 7, 3, 7, 7, 7, 7},
		Expands: []int{3, 4, 3, 4, 4, 4, 4, 3, 4, 4, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4},
		Depths:  []int{3, 3, 3, 3, 3}, Resolution: 192,
	}},
	{"w12_n3", ofa.Subnet{
		Kernels: []int{7, 3, 5, 3, 5, 7, 3, 3, 5, 5, 5, 7, 7, 7, 5, 5, 3, 3, 3, 7},
		Expands: []int{6, 6, 3, 3, 4, 4, 3, 3, 6, 4, 4, 4, 6, 4, 4, 6, 4, 6, 3, 3},
		Depths:  []int{2, 3, 3, 3, 4}, Resolution: 208,
	}},
	{"w12_n4", ofa.Subnet{
		Kernels: []int{5, 3, 3, 7, 7, 3, 3, 3, 7, 5, 3, 5, 7, 5, 7, 3, 7, 7, 5, 7},
		Expands: []int{6, 6, 4, 3, 4, 6, 6, 3, 4, 6, 3, 4, 6, 6, 6, 6, 4, 4, 4, 6},
		Depths:  []int{2, 4, 4, 4, 3}, Resolution: 224,
	}},
	{"w12_n5", ofa.Subnet{
		Kernels: []int{5, 5, 5, 5, 5, 7, 7, 3, 5, 7, 7, 7, 7, 7, 5, 5, 7, 5, 5, 5},
		Expands: []int{6, 6, 6, 6, 6, 6, 4, 6, 6, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 3},
		Depths:  []int{4, 4, 4, 4, 4}, Resolution: 224,
	}},
}
