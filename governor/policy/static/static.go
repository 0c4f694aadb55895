// Package static never switches. With the best option in hindsight it is the best that a product without a governor
// could have shipped.
package static

import "github.com/dynofa/dynofa/governor"

// Policy implements governor.Policy by always deciding for itself.
type Policy governor.Decision

// Next decides.
func (p Policy) Next(*governor.State) governor.Decision { return governor.Decision(p) }
