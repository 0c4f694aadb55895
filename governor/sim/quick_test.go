package sim
import ("testing";"fmt";"time";"os";"github.com/dynofa/dynofa/governor/policy")
func TestQuick(t *testing.T){
 n:=30
 s:=Suite()
 start:=time.Now()
 tabs,err:=Run(s,policy.All(),n)
 if err!=nil{t.Fatal(err)}
 fmt.Println(time.Since(start))
 tabs=append(tabs,Mean(tabs))
 only:=os.Getenv("ONLY")
 for _,tb:=range tabs{
  if only!="" && tb.Scenario!="mean" && tb.Scenario[:len(only)]!=only {continue}
  fmt.Println(tb.Scenario)
  for _,r:=range tb.Rows{ fmt.Printf("  %-16s eff %6.2f regret %6.2f±%.2f miss %6.2f caused %5.2f unset %5.2f sw %6.2f rate %5.1f cov %5.1f ev %.1f\n",r.Policy,r.Effective.Mean,r.Regret.Mean,r.Regret.Half,r.Miss.Mean,r.Caused.Mean,r.Unsettled.Mean,r.Switches.Mean,r.Rate.Mean,r.Covered.Mean,r.Events.Mean)}
 }
}
