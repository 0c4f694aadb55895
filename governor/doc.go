// Package governor keeps the accuracy as high as the hardware of the moment allows: it predicts what each level
// of a library would take now and picks the best one that meets the constraints.
//
// An Estimator learns from latencies and sensors how the machine of the moment relates to the profiled one, a Policy
// turns that into a Decision, and a Governor joins the two around an engine that is the caller's:
//
//	g, err := governor.New(governor.Config{Profile: profile, Estimator: estimator.New(profile, nil), Policy: steady.New(nil),
//		Constraints: governor.Constraints{Deadline: 60 * time.Millisecond}})
//	for frame := range frames {
//		d := g.Next()
//		start := time.Now()
//		run(frame, d.Level, d.Configuration)
//		g.Observe(time.Since(start))
//	}
//
// Nothing in the loop reads a clock, opens a file or allocates, so the same code runs live, in simulations and on
// recorded traces.
package governor
