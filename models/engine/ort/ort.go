//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"os"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/assay-bench/assay/models/engine"
)

// Library is ONNX Runtime, loaded. It stays loaded until the process ends.
type Library struct{ path, version string }

// loaded is the one library of this process: the C library and its Go binding are global.
var loaded struct {
	sync.Mutex
	library *Library
}

// Open loads the library: from the file or folder given, or, where that is empty, from the place that the
// environment variable names, or from the folders of pip, npm and the system. A second Open returns the
// library that is loaded, unless another file is asked for. Errors wrap ErrLibrary and name each place tried.
func Open(given string) (*Library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	tried := places(given, os.Getenv)
	found := candidates(tried)
	if l := loaded.library; l != nil {
		for _, path := range found {
			if path == l.path {
				return l, nil
			}
		}
		return nil, fmt.Errorf("%w: %s is loaded, a process takes one library", ErrLibrary, l.path)
	}
	why := errors.New("no library found")
	for _, path := range found {
		ort.SetSharedLibraryPath(path)
		err := ort.InitializeEnvironment()
		if err == nil {
			err = errors.Join(ort.SetEnvironmentLogLevel(ort.LoggingLevelFatal), ort.DisableTelemetry())
		}
		if err == nil {
			loaded.library = &Library{path: path, version: ort.GetVersion()}
			return loaded.library, nil
		}
		why = fmt.Errorf("%s: %w", path, err)
	}
	return nil, missing(tried, why.Error())
}

// Path returns the library's file.
func (l *Library) Path() string { return l.path }

// Version returns what the library says of itself.
func (l *Library) Version() string { return l.version }

// Options are what a session is made with.
type Options struct {
	// Want is what the model's metadata must say, read by the library from the file.
	Want map[string]string
	// Copying makes every run copy its inputs into new tensors and its outputs out of tensors of the library:
	// the usual way, kept to be measured against.
	Copying bool
}

// NewSession loads a model for one goroutine, with one thread. Close it: until then it pins the memory of the
// values it ran with, so that the library may keep pointers to it. Errors name the metadata key that differs
// and wrap ErrMetadata, or are the library's.
func (l *Library) NewSession(model []byte, o Options) (*Session, error) {
	if len(model) == 0 {
		return nil, fmt.Errorf("%w: an empty model", engine.ErrShape)
	}
	in, out, err := ports(model)
	if err != nil {
		return nil, err
	}
	s := &Session{library: l, in: in, out: out, copying: o.Copying, bound: map[key]*binding{}}
	options, err := oneThread()
	if err != nil {
		return nil, err
	}
	s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(model, names(in), names(out), options)
	if err = errors.Join(err, options.Destroy()); err != nil {
		return nil, fmt.Errorf("onnxruntime %s: %w", l.version, err)
	}
	if err := s.checkMetadata(o.Want); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// oneThread keeps the library from taking all cores, which wrecks the tail.
func oneThread() (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	return o, errors.Join(o.SetIntraOpNumThreads(1), o.SetInterOpNumThreads(1), o.SetExecutionMode(ort.ExecutionModeSequential))
}

func names(ports []engine.Port) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = p.Name
	}
	return out
}

// ports asks the library for the inputs and outputs of a model. An input that has a default is none.
func ports(model []byte) (in, out []engine.Port, err error) {
	i, o, err := ort.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, nil, err
	}
	if in, err = portsOf("input", i); err == nil {
		out, err = portsOf("output", o)
	}
	if len(in)+len(out) > maxPorts {
		err = errors.Join(err, fmt.Errorf("%w: %d inputs and outputs, at most %d", engine.ErrShape, len(in)+len(out), maxPorts))
	}
	return in, out, err
}

func portsOf(what string, infos []ort.InputOutputInfo) ([]engine.Port, error) {
	var out []engine.Port
	for _, info := range infos {
		p := engine.Port{Name: info.Name, Ints: info.DataType == ort.TensorElementDataTypeInt64}
		if !p.Ints && info.DataType != ort.TensorElementDataTypeFloat {
			return nil, fmt.Errorf("%w: %s %q is of %v", engine.ErrShape, what, info.Name, info.DataType)
		}
		for _, d := range info.Dimensions {
			size := int(d)
			if size < 1 {
				size = engine.Any
			}
			p.Shape = append(p.Shape, size)
		}
		if len(p.Shape) > maxRank {
			return nil, fmt.Errorf("%w: %s %q has %d dimensions, at most %d", engine.ErrShape, what, info.Name, len(p.Shape), maxRank)
		}
		out = append(out, p)
	}
	return out, nil
}
