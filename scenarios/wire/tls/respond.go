package tls

import (
	"crypto/sha256"
	"slices"
)

// respond writes the ServerHello and the flight, and sets the handshake keys.
func (r *serverRun) respond() error {
	r.heard.Stage = "server-hello"
	share, shared, err := r.exchange()
	if err != nil {
		return r.refuse(illegalParameter, err.Error())
	}
	r.heard.Group = r.named
	hello := r.serverHello(share)
	r.script.add(hello)
	r.l.version = r.recordVersion()
	out := r.l.frame(recordHandshake, hello)
	if len(r.hello.SessionID) > 0 {
		out = append(out, r.l.changeCipherSpec()...)
	}
	r.sched = newSchedule(r.algo, r.psk)
	r.sched.next(shared)
	r.clientHS = r.sched.derive("c hs traffic", r.script.b)
	r.serverHS = r.sched.derive("s hs traffic", r.script.b)
	r.log(logClientHandshake, r.clientHS)
	r.log(logServerHandshake, r.serverHS)
	if r.l.out, err = newHalf(r.algo, r.serverHS); err != nil {
		return err
	}
	flight, err := r.flight()
	if err != nil {
		return err
	}
	for _, m := range flight {
		out = append(out, r.l.frame(recordHandshake, m)...)
	}
	r.l.write(out)
	r.sched.next(nil)
	r.l.in, err = newHalf(r.algo, r.clientHS)
	if err != nil {
		return err
	}
	// The client's traffic secret takes the transcript up to the server's Finished.
	r.clientApp = r.sched.derive("c ap traffic", r.script.b)
	r.serverApp = r.sched.derive("s ap traffic", r.script.b)
	r.log(logClientTraffic, r.clientApp)
	r.log(logServerTraffic, r.serverApp)
	return nil
}

func (r *serverRun) log(label string, secret []byte) {
	r.heard.KeyLog = append(r.heard.KeyLog, keyLogLine(label, r.hello.Random, secret))
}

// exchange gives the share as it is sent and the shared secret. A group that is named without a share of
// the client's leaves nothing to agree on: the secret is then 32 bytes that only this end knows.
func (r *serverRun) exchange() (share, shared []byte, err error) {
	r.named = r.group
	if g := r.s.Bend.Group; g != 0 {
		r.named = g
	}
	var parts secrets
	if client, ok := r.shareOf(r.named); ok {
		share, parts, err = answerShare(r.named, client, r.from)
	}
	switch {
	case err != nil && r.s.Bend.Group == 0:
		return nil, nil, err
	case err != nil || share == nil:
		share, shared = looseShare(r.named, r.from), r.from("secret", 32)
	default:
		shared = combine(r.named, parts)
	}
	if f := r.s.Bend.Secret; f != nil {
		shared = f(r.named, parts.ecdh, parts.kem)
	}
	if f := r.s.Bend.Share; f != nil {
		share = f(r.named, share)
	}
	return share, shared, nil
}

func (r *serverRun) serverHello(share []byte) []byte {
	extensions := extension(nil, extVersions, append16(nil, version13))
	extensions = extension(extensions, extKeyShare, appendVec16(append16(nil, uint16(r.named)), share))
	if r.psk != nil {
		extensions = extension(extensions, extPSK, append16(nil, uint16(r.chosen)))
	}
	suite := r.suite
	if r.s.Bend.Suite != 0 {
		suite = r.s.Bend.Suite
	}
	return r.helloMessage(r.random(), suite, extensions)
}

func (r *serverRun) random() (out [32]byte) {
	copy(out[:], r.from("server random", 32))
	return out
}

// flight makes EncryptedExtensions to Finished and puts them into the transcript.
func (r *serverRun) flight() ([][]byte, error) {
	messages := [][]byte{r.encryptedExtensions()}
	r.script.add(messages[0])
	put := func(m []byte) {
		messages = append(messages, m)
		r.script.add(m)
	}
	if r.psk == nil {
		if r.s.Request {
			put(certificateRequest())
		}
		if !r.s.Bend.NoCertificate {
			if err := r.authenticate(put); err != nil {
				return nil, err
			}
		}
	}
	mac := r.algo.finished(r.serverHS, r.script.b)
	if f := r.s.Bend.Finished; f != nil {
		mac = f(mac)
	}
	put(message(msgFinished, mac))
	return messages, nil
}

func (r *serverRun) encryptedExtensions() []byte {
	var list []byte
	for _, name := range r.s.ALPN {
		if slices.Contains(r.seen.ALPN, name) {
			list = extension(nil, extALPN, protocols([]string{name}))
			break
		}
	}
	return message(msgEncryptedExtensions, appendVec16(nil, list))
}

func certificateRequest() []byte {
	schemes := appendVec16(nil, appendNumbers(nil, Offer{}.schemes()))
	return message(msgCertificateRequest, appendVec16([]byte{0}, extension(nil, extSchemes, schemes)))
}

func (r *serverRun) authenticate(put func([]byte)) error {
	id, bend := r.s.Identity, r.s.Bend
	staple := id.Staple
	if !r.seen.Status {
		staple = nil
	}
	put(certificateMessage(nil, id.Chain, staple))
	content := signedContent(serverContext, r.algo.digest(r.script.b))
	scheme, signature, err := r.signature(content)
	if err != nil {
		return err
	}
	if bend.Scheme != 0 {
		scheme = bend.Scheme
	}
	put(verifyMessage(scheme, signature))
	return nil
}

// signature signs as the identity does, or as it is bent to.
func (r *serverRun) signature(content []byte) (Scheme, []byte, error) {
	id, bend := r.s.Identity, r.s.Bend
	signer := sign
	if bend.Sign != nil {
		signer = bend.Sign
	}
	signature, err := signer(id.Signer, content)
	if err == nil && bend.Signature != nil {
		signature = bend.Signature(signature)
	}
	return id.scheme(), signature, err
}

func (r *serverRun) applicationKeys() error {
	var err error
	if r.l.in, err = newHalf(r.algo, r.clientApp); err != nil {
		return err
	}
	r.l.out, err = newHalf(r.algo, r.serverApp)
	return err
}

// legacyDefault is ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
const legacyDefault = 0xc02b

// legacy answers as a server of TLS 1.2 and notes what the client does.
func (r *serverRun) legacy() error {
	r.heard.Stage = "server-hello"
	flight, err := r.legacyFlight()
	if err != nil {
		return err
	}
	var out []byte
	r.l.version = r.recordVersion()
	for _, m := range flight {
		out = append(out, r.l.frame(recordHandshake, m)...)
	}
	r.l.write(out)
	r.l.arm(r.l.wait)
	for {
		e, err := r.l.next()
		if err != nil {
			return err
		}
		r.heard.Stage = "flight"
		r.heard.Messages = append(r.heard.Messages, e.data[0])
		if e.data[0] == msgClientKeyExchange {
			return &stop{ending: Answered, detail: "the client went on with TLS 1.2"}
		}
	}
}

// legacyFlight is ServerHello to ServerHelloDone, RFC 5246 section 7.4.
func (r *serverRun) legacyFlight() ([][]byte, error) {
	plan := r.s.Legacy
	random := r.random()
	if plan.Sentinel {
		copy(random[24:], sentinel12)
	}
	flight := [][]byte{r.legacyHello(random)}
	if plan.HelloOnly {
		return flight, nil
	}
	var list []byte
	for _, der := range r.s.Identity.Chain {
		list = appendVec24(list, der)
	}
	exchange, err := r.legacyExchange(random)
	if err != nil {
		return nil, err
	}
	return append(flight, message(msgCertificate, appendVec24(nil, list)), exchange, message(msgServerHelloDone, nil)), nil
}

func (r *serverRun) legacyHello(random [32]byte) []byte {
	suite := r.s.Legacy.Suite
	if suite == 0 {
		suite = legacyDefault
	}
	session := sha256.Sum256(r.from("legacy session", 32))
	body := append(append16(nil, version12), random[:]...)
	body = append(append16(appendVec8(body, session[:]), suite), 0)
	var extensions []byte
	if _, ok := r.hello.Find(extRenegotiation); ok {
		extensions = extension(nil, extRenegotiation, []byte{0})
	}
	if _, ok := r.hello.Find(extPointFormats); ok {
		extensions = extension(extensions, extPointFormats, []byte{1, 0})
	}
	return message(msgServerHello, appendVec16(body, extensions))
}

// legacyExchange signs both randoms and the parameters. The public value has one byte of length: of a
// hybrid only the ECDH part fits.
func (r *serverRun) legacyExchange(random [32]byte) ([]byte, error) {
	plan := r.s.Legacy
	g := plan.Group
	if g == 0 {
		g = X25519
	}
	public := r.from("legacy public", 32)
	if s, ok := shapeOf(g); ok && s.curve != nil {
		key, err := ecdhKey(s.curve, s.scalar(), r.from, "legacy "+g.String())
		if err != nil {
			return nil, err
		}
		public = key.PublicKey().Bytes()
	}
	params := appendVec8(append16([]byte{3}, uint16(g)), public)
	content := append(append(append([]byte(nil), r.hello.Random[:]...), random[:]...), params...)
	scheme, signature, err := r.signature(content)
	if err != nil {
		return nil, err
	}
	if plan.Scheme != 0 {
		scheme = plan.Scheme
	}
	return message(msgServerKeyExchange, appendVec16(append16(params, uint16(scheme)), signature)), nil
}
