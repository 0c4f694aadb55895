package sim

import (
	"embed"
	"fmt"
)

//go:embed suite/*.json
var files embed.FS

// Suite is the scenarios G0 to G15.
func Suite() []*Scenario {
	var list []*Scenario
	for i := range 16 {
		name := fmt.Sprintf("suite/g%02d.json", i)
		f, err := files.Open(name)
		must(err)
		s, err := Parse(f)
		must(err)
		list = append(list, s)
	}
	return list
}
