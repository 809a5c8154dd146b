module cprof.bench

go 1.19
