package main

import "golang.org/x/sys/unix"

// pinThread keeps the calling thread on the last core it may use and returns its number, or -1.
func pinThread() int {
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return -1
	}
	for core := len(allowed)*64 - 1; core >= 0; core-- {
		if allowed.IsSet(core) && pinThreadTo(core) {
			return core
		}
	}
	return -1
}

// pinThreadTo keeps the calling thread on a core and tells whether that worked.
func pinThreadTo(core int) bool {
	var one unix.CPUSet
	one.Set(core)
	return unix.SchedSetaffinity(0, &one) == nil
}
