# Targets for the cluster tier of the test lab; the main Makefile includes this.
LAB := go run ./test/lab/cmd/lab

.PHONY: lab lab-install lab-build lab-down lab-status

## lab: build what is missing and start a Kubernetes with three nodes
lab:
	$(LAB) up

## lab-install: install the Debian packages that the lab needs
lab-install:
	test/lab/cluster/install.sh

## lab-build: build the lab's binaries (about ten minutes, once)
lab-build:
	$(LAB) build

## lab-down: end the lab and everything in it
lab-down:
	$(LAB) down

## lab-status: what is up, what has died
lab-status:
	$(LAB) status
