package main

import (
	"testing"

	"kafkachat/internal/cli/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, "kafkaread", main, "kafkawrite") }

func TestScripts(t *testing.T) { clitest.Scripts(t) }
