module github.com/go-libevent/libevent/examples/redis

go 1.25.0

replace github.com/go-libevent/libevent => ../..

require (
	github.com/go-libevent/libevent v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/mattn/go-pointer v0.0.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
