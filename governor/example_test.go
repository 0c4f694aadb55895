package governor_test

import (
	"fmt"
	"log"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

// Two models answer every frame of a camera, one after the other on one device, and one of them goes first.
func ExampleShare() {
	profile := &governor.Profile{Configurations: []governor.Configuration{{Threads: 1}}}
	for i, took := range []time.Duration{10, 20, 30, 40, 50} { // ms, measured on the device
		profile.Levels = append(profile.Levels, governor.Level{Accuracy: 70 + 2*float64(i), Latency: []time.Duration{took * time.Millisecond}})
	}
	asked := governor.Constraints{Deadline: 90 * time.Millisecond, Period: 100 * time.Millisecond}
	var models [2]*governor.Governor
	for i := range models {
		var err error
		models[i], err = governor.New(governor.Config{Profile: profile, Estimator: estimator.New(profile, nil), Policy: steady.New(nil), Constraints: asked})
		if err != nil {
			log.Fatal(err)
		}
	}

	// Once in a while: how long an inference of each may take.
	limits, ok, err := governor.Share([]governor.Claim{
		{Profile: profile, Estimate: models[0].Estimate(), Constraints: asked, Priority: 1},
		{Profile: profile, Estimate: models[1].Estimate(), Constraints: asked},
	}, 0.9)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("enough for the cheapest of each:", ok)

	// For every frame: each within its limit.
	for i, g := range models {
		level := g.NextWithin(limits[i]).Level
		fmt.Printf("model %d: level %d\n", i, level)
		g.Observe(profile.Levels[level].Latency[0]) // run it here
	}
	// Output:
	// enough for the cheapest of each: true
	// model 0: level 4
	// model 1: level 2
}
