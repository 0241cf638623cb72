// Package ort executes ONNX graphs by ONNX Runtime, whose shared library it finds when the program runs. A
// binary that was built without cgo has the package too, and refuses with the reason. Nothing is downloaded,
// and no library is taken from the working directory: whoever can write there must not run code here.
package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Environment names the variable that says where the library is: the file, or a folder that holds it.
const Environment = "ASSAY_ONNXRUNTIME"

// Name is the executor's name in configuration and reports.
const Name = "onnxruntime"

// ErrLibrary is wrapped where the library is missing, is none, or is of another version.
var ErrLibrary = errors.New("ONNX Runtime is not usable")

// libraryNames are patterns of the library's file name.
var libraryNames = map[string][]string{
	"darwin":  {"libonnxruntime.dylib", "libonnxruntime.*.dylib"},
	"windows": {"onnxruntime.dll"},
}

func patterns() []string {
	if p, known := libraryNames[runtime.GOOS]; known {
		return p
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.*"}
}

// places returns where the library may be, in order: folders or glob patterns of folders. A path that was
// given is the only one; then the environment variable, if it is set, is the only one; otherwise the folders of
// pip's package onnxruntime, of npm's onnxruntime-node, and of the system.
func places(given string, env func(string) string) []string {
	for _, only := range []string{given, env(Environment)} {
		if only != "" {
			return []string{only}
		}
	}
	var out []string
	for _, root := range pythonRoots(env) {
		out = append(out, filepath.Join(root, "onnxruntime", "capi"))
	}
	platform := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if platform == "" {
		platform = runtime.GOARCH
	}
	for _, root := range append(filepath.SplitList(env("NODE_PATH")), "/usr/local/lib/node_modules", "/usr/lib/node_modules") {
		out = append(out, filepath.Join(root, "onnxruntime-node", "bin", "napi-v*", runtime.GOOS, platform))
	}
	out = append(out, filepath.SplitList(env("LD_LIBRARY_PATH"))...)
	return absolute(append(out, "/usr/local/lib", "/usr/lib", "/usr/lib/*-linux-gnu", "/usr/lib64", "/opt/onnxruntime/lib", "/opt/homebrew/lib"))
}

// pythonRoots are patterns of the folders that Python imports packages from.
func pythonRoots(env func(string) string) []string {
	out := filepath.SplitList(env("PYTHONPATH"))
	for _, prefix := range []string{env("VIRTUAL_ENV"), env("CONDA_PREFIX"), filepath.Join(env("HOME"), ".local"), filepath.Join(env("HOME"), ".pyenv", "versions", "*"), "/usr/local", "/usr"} {
		if filepath.IsAbs(prefix) {
			out = append(out, filepath.Join(prefix, "lib", "python3*", "site-packages"), filepath.Join(prefix, "lib", "python3*", "dist-packages"))
		}
	}
	return append(out, "/usr/lib/python3/dist-packages")
}

// absolute drops what is relative to the working directory.
func absolute(places []string) []string {
	out := places[:0]
	for _, p := range places {
		if filepath.IsAbs(p) {
			out = append(out, p)
		}
	}
	return out
}

// candidates returns the libraries that are there, in order.
func candidates(places []string) []string {
	var out []string
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			out = append(out, p)
			continue
		}
		for _, name := range patterns() {
			found, err := filepath.Glob(filepath.Join(p, name))
			if err == nil { // a pattern that is none finds nothing
				out = append(out, found...)
			}
		}
	}
	return out
}

// missing is the error for a library that was found nowhere; it names each place.
func missing(tried []string, why string) error {
	return fmt.Errorf("%w: %s; tried %s; install it (pip install onnxruntime, or npm install onnxruntime-node) or set %s",
		ErrLibrary, why, strings.Join(tried, ", "), Environment)
}
