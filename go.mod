module github.com/go-libevent/libevent

go 1.25.0

require github.com/mattn/go-pointer v0.0.1

require golang.org/x/net v0.49.0

require (
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
