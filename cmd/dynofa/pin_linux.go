package main

import "golang.org/x/sys/unix"

// allowedCores are the cores that the calling thread may use, in order.
func allowedCores() (cores []int) {
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return nil
	}
	for core := range len(allowed) * 64 {
		if allowed.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores
}

// pinThreadTo keeps the calling thread on a core and tells whether that worked.
func pinThreadTo(core int) bool {
	var one unix.CPUSet
	one.Set(core)
	return unix.SchedSetaffinity(0, &one) == nil
}
