package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"testing"
)

// Two processes of one build give the same vectors, byte for byte: router/vector/deterministic asks for it, and
// no single process can show it.
func TestTwoProcessesGiveTheSameVectors(t *testing.T) {
	body := []byte(`{"texts":["will it rain tomorrow","send me a copy of my invoice","write a function that reverses a string","naïve café 東京"]}`)
	first, second := vectorsOf(t, body), vectorsOf(t, body)
	if !bytes.Equal(first, second) || !bytes.Contains(first, []byte(`"vector":[`)) {
		t.Errorf("%.200s\n%.200s", first, second)
	}
}

// vectorsOf asks a fresh reference stack for vectors.
func vectorsOf(t *testing.T, body []byte) []byte {
	t.Helper()
	cmd := exec.Command(program, "up", "--watch-stdin")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close() // which ends it
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		Endpoints map[string]string `json:"endpoints"`
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	response, err := http.Post("http://"+ready.Endpoints["router"]+"/routers/default/embed", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %v %s", response.StatusCode, err, raw)
	}
	return raw
}
