// Package capi is the native engine as Go sees it: the calls of dynofa.h one to one, without decisions and
// without copies. Where cgo or the platform is missing it is empty; the files with import "C" say where it is not.
package capi
