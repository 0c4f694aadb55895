module example.org/consumer

go 1.26.0
