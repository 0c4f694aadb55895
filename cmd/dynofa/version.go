package main

import "runtime/debug"

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	e.printf("dynofa %s\n", version())
	return nil
}

// unknownVersion is that of a build that knows neither its module's version nor its commit.
const unknownVersion = "devel"

// version is the module's version as the go command recorded it, or the commit of a local build.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return unknownVersion
	}
	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return unknownVersion
}
