//go:build !race

package lab

// raceEnabled tells that this binary was built with -race.
const raceEnabled = false
