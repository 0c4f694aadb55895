package harness

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

// kernelsOf returns a function that names the kernels which a part of the session's network calls. Engines that
// do not tell their kernels are named themselves.
func (m *Model) kernelsOf(s *dynofa.Session) func(dynofa.LayerTime) string {
	list := m.Kernels()
	blocks := m.Space().Blocks(s.Subnet())
	find := func(prefix string) string {
		for _, k := range list {
			if strings.HasPrefix(k, "dynk_"+prefix+"_") {
				return k
			}
		}
		return ""
	}
	return func(l dynofa.LayerTime) string {
		var calls []string
		for name := range strings.SplitSeq(l.Name, ", ") {
			k := ""
			switch name {
			case "stem":
				k = find(fmt.Sprintf("stem_f32_s%d", m.Space().Stem.Stride))
			case "expand", "project", "head":
				k = find("pointwise_f32")
			case "squeeze", "excite", "features", "classifier":
				k = find("dense_f32")
			case "depthwise":
				for i := range blocks {
					if b := &blocks[i]; b.Index == l.Block {
						k = find(fmt.Sprintf("dwconv_f32_k%ds%d", b.Kernel, b.Stride))
					}
				}
			}
			if k != "" && !slices.Contains(calls, k) {
				calls = append(calls, k)
			}
		}
		if len(calls) == 0 {
			return m.Backend()
		}
		return strings.Join(calls, "+")
	}
}
