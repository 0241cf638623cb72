package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/results"
)

// Any as a command code matches every command.
const Any tpm2.TPMCC = 0

// Forever as a number of times means until Clear.
const Forever = -1

// Fault is something that the harness did to the device or to a command.
type Fault struct {
	Name    string `json:"name"`              // extend, reset, wipe, lockout, respond, truncate, delay, before, clear, …
	Command string `json:"command,omitempty"` // that it applies to; empty: any, or none
	Detail  string `json:"detail,omitempty"`
	Times   int    `json:"times,omitempty"` // how often; -1: until it is cleared
	Error   string `json:"error,omitempty"` // of what was tried
}

// rule is one misbehaviour of the device.
type rule struct {
	code  tpm2.TPMCC
	skip  int // matching commands that pass first
	times int // matching commands that it then applies to
	name  string
	act   action
}

// action answers a command. cut tells that the connection ends after the response. What holds a command
// back waits for release at most, which was the device's when the rule was found: one that is cleared
// meanwhile holds nothing back.
type action func(command []byte, release <-chan struct{}) (response []byte, cut bool, err error)

// forward is what an honest device does.
func (d *Device) forward(command []byte, _ <-chan struct{}) ([]byte, bool, error) {
	response, err := d.send(command)
	return response, false, err
}

// pick finds the first rule that applies to a command, and what to say of it.
func (d *Device) pick(code tpm2.TPMCC) (act action, name string, release <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rules {
		if r.code != Any && r.code != code || r.times == 0 {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		return r.act, r.name, d.release
	}
	return d.forward, "", d.release
}

func (d *Device) add(f Fault, r *rule) error {
	if r.code != Any {
		f.Command = CommandName(r.code)
	}
	r.name, f.Times = f.Name, r.times
	if err := d.env.Put(results.FromTPM, Faulted, f); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = append(d.rules, r)
	return nil
}

// Respond answers the next commands of a code with a response code; they do not reach the TPM.
func (d *Device) Respond(code tpm2.TPMCC, rc tpm2.TPMRC, times int) error {
	return d.add(Fault{Name: "respond", Detail: ResponseName(rc)}, &rule{code: code, times: times,
		act: func([]byte, <-chan struct{}) ([]byte, bool, error) {
			response := []byte{0x80, 0x01, 0, 0, 0, headerBytes}
			return binary.BigEndian.AppendUint32(response, uint32(rc)), false, nil
		}})
}

// Truncate cuts the responses to the next commands of a code to so many bytes and then closes the
// connection; 0 makes them empty.
func (d *Device) Truncate(code tpm2.TPMCC, keep, times int) error {
	return d.add(Fault{Name: "truncate", Detail: fmt.Sprintf("to %d bytes", keep)}, &rule{code: code, times: times,
		act: func(command []byte, _ <-chan struct{}) ([]byte, bool, error) {
			response, err := d.send(command)
			return response[:min(keep, len(response))], true, err
		}})
}

// Delay holds the next commands of a code back for so long, or until Clear or Close.
func (d *Device) Delay(code tpm2.TPMCC, pause time.Duration, times int) error {
	return d.add(Fault{Name: "delay", Detail: pause.String()}, &rule{code: code, times: times,
		act: func(command []byte, release <-chan struct{}) ([]byte, bool, error) {
			timer := time.NewTimer(pause)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-release:
			}
			return d.forward(command, release)
		}})
}

// Hang holds every command of a code back until Clear or Close.
func (d *Device) Hang(code tpm2.TPMCC) error {
	return d.add(Fault{Name: "hang"}, &rule{code: code, times: Forever,
		act: func(command []byte, release <-chan struct{}) ([]byte, bool, error) {
			<-release
			return d.forward(command, release)
		}})
}

// Before calls hook before the n-th command of a code from now on, counted from 1. The hook has the TPM
// alone; the command is the target's, as it came. That it ran is recorded, with its error.
func (d *Device) Before(code tpm2.TPMCC, n int, name string, hook func(t *Direct, command []byte) error) error {
	return d.add(Fault{Name: "before", Detail: name}, &rule{code: code, skip: n - 1, times: 1,
		act: func(command []byte, _ <-chan struct{}) ([]byte, bool, error) {
			d.tpm.Lock()
			defer d.tpm.Unlock()
			f := Fault{Name: "ran", Command: CommandName(code), Detail: name}
			if err := hook(&Direct{d.raw}, slices.Clone(command)); err != nil {
				f.Error = err.Error()
			}
			if err := d.env.Put(results.FromTPM, Faulted, f); err != nil {
				return nil, true, err
			}
			response, err := d.raw.Send(command)
			return response, false, err
		}})
}

// Clear drops all rules and ends delays under way.
func (d *Device) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = nil
	close(d.release)
	d.release = make(chan struct{})
}

// Heal is Clear, recorded.
func (d *Device) Heal() error {
	d.Clear()
	return d.env.Put(results.FromTPM, Faulted, Fault{Name: "clear"})
}

// directly runs f with the TPM alone and records what it did.
func (d *Device) directly(fault Fault, f func(*Direct) error) error {
	d.tpm.Lock()
	err := f(&Direct{d.raw})
	d.tpm.Unlock()
	if err != nil {
		fault.Error = err.Error()
		err = fmt.Errorf("TPM device: %s: %w", fault.Name, err)
	}
	return errors.Join(err, d.env.Put(results.FromTPM, Faulted, fault))
}

// Extend extends a PCR of the SHA-256 bank.
func (d *Device) Extend(pcr uint, digest [32]byte) error {
	return d.directly(Fault{Name: "extend", Detail: fmt.Sprintf("PCR %d", pcr)}, func(t *Direct) error { return t.Extend(pcr, digest) })
}

// ReadPCR reads a PCR of the SHA-256 bank.
func (d *Device) ReadPCR(pcr uint) ([]byte, error) {
	d.tpm.Lock()
	defer d.tpm.Unlock()
	return (&Direct{d.raw}).ReadPCR(pcr)
}

// Reset reboots the TPM: PCRs to zero, objects and sessions gone; what was sealed stays.
func (d *Device) Reset() error {
	d.forget()
	return d.directly(Fault{Name: "reset"}, func(*Direct) error { return d.raw.Reset() })
}

// Wipe makes it another TPM: seeds and NV memory are gone.
func (d *Device) Wipe() error {
	d.forget()
	return d.directly(Fault{Name: "wipe"}, func(*Direct) error { return d.raw.Wipe() })
}

func (d *Device) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.foreign = nil
}

// LockOut gives wrong passwords for an object that counts them until the TPM locks out.
func (d *Device) LockOut() error {
	tries := 0
	f := Fault{Name: "lockout"}
	err := d.directly(f, func(t *Direct) (err error) {
		tries, err = t.lockOut()
		return err
	})
	if err != nil {
		return err
	}
	return d.look("lockout", tries)
}

// Unlock ends a lockout with the lockout authorisation, which is empty.
func (d *Device) Unlock() error {
	return d.directly(Fault{Name: "unlock"}, func(t *Direct) error { return t.unlock() })
}

// ExhaustObjects loads up to n objects of another program, which stay until ClearForeign, and returns
// how many the TPM had room for.
func (d *Device) ExhaustObjects(n int) (loaded int, err error) {
	return d.exhaust("exhaust-objects", n, (*Direct).loadForeign)
}

// ExhaustSessions starts up to n sessions of another program, which stay until ClearForeign, and
// returns how many the TPM had room for.
func (d *Device) ExhaustSessions(n int) (started int, err error) {
	return d.exhaust("exhaust-sessions", n, (*Direct).startForeign)
}

func (d *Device) exhaust(name string, n int, take func(*Direct) (tpm2.TPMHandle, error)) (int, error) {
	taken := 0
	err := d.directly(Fault{Name: name, Times: n}, func(t *Direct) error {
		for range n {
			handle, err := take(t)
			if full(err) {
				return nil
			}
			if err != nil {
				return err
			}
			taken++
			d.mu.Lock()
			d.foreign = append(d.foreign, handle)
			d.mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return taken, err
	}
	return taken, d.look(name, taken)
}

// ClearForeign flushes what ExhaustObjects and ExhaustSessions left in the TPM.
func (d *Device) ClearForeign() error {
	return d.directly(Fault{Name: "clear-foreign"}, func(t *Direct) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		var errs []error
		for _, handle := range d.foreign {
			errs = append(errs, t.flush(handle))
		}
		d.foreign = nil
		return errors.Join(errs...)
	})
}

// Look is a number that the harness read from the device.
type Look struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func (d *Device) look(name string, n int) error {
	return d.env.Put(results.FromTPM, Looked, Look{name, n})
}

// Note records a number under a name, as the harness's own observation.
func (d *Device) Note(name string, n int) error { return d.look(name, n) }

// CountHandles records how many transient objects and loaded sessions the TPM holds, whoever's they are.
func (d *Device) CountHandles(name string) error {
	d.tpm.Lock()
	n, err := (&Direct{d.raw}).handles()
	d.tpm.Unlock()
	if err != nil {
		return fmt.Errorf("TPM device: count handles: %w", err)
	}
	return d.look(name, n)
}
