package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/policy/steady"
	"github.com/dynofa/dynofa/governor/sensor"
)

// The loop of a product: the governor decides, the engine runs, the governor learns. It stands here because only cmd
// may import both.
func Example() {
	m, err := dynofa.Open("../../models/fashion/fashion.dofa", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	s, err := m.NewSession(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	profile := &governor.Profile{Configurations: []governor.Configuration{{Threads: 1}}}
	for _, l := range m.Levels() { // latencies: measure them on the device; these are the bundle's record
		profile.Levels = append(profile.Levels, governor.Level{
			Accuracy: l.Accuracy[0].Top1,
			Latency:  []time.Duration{time.Duration(l.Latency[0].MedianMS * 1e6)},
		})
	}
	started := time.Now()
	clock := func() time.Duration { return time.Since(started) } // the same for sensors and governor
	sensors := sensor.Open(sensor.Config{Clock: clock})
	defer sensors.Close()
	g, err := governor.New(governor.Config{
		Profile: profile, Estimator: estimator.New(profile, nil), Policy: steady.New(nil), Hardware: sensors.Hardware, Now: clock,
		Constraints: governor.Constraints{Deadline: time.Minute}, // generous: the most accurate level always fits
	})
	if err != nil {
		log.Fatal(err)
	}
	image, logits := make([]float32, 28*28*3), make([]float32, m.Classes())
	for range 3 {
		level := g.Next().Level
		if err := s.Select(level); err != nil {
			log.Fatal(err)
		}
		r := s.Subnet().Resolution
		start := time.Now()
		if err := s.Run(context.Background(), image[:r*r*3], logits); err != nil {
			log.Fatal(err)
		}
		g.Observe(time.Since(start))
		fmt.Println("level", level)
	}
	// Output:
	// level 6
	// level 6
	// level 6
}
