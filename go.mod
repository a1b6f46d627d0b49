module github.com/dozo-dev/dozo

go 1.26.0
