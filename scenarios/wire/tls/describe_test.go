package tls

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

func TestDescribeTellsTheSameFacts(t *testing.T) {
	for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
		mine, theirs := loopback(t)
		tap := &tapped{Conn: mine}
		cfg := configOf("mldsa", X25519MLKEM768)
		cfg.Certificates = []tls.Certificate{authorities()["mldsa"].certificate(make([]byte, 3508))}
		cfg.NextProtos = []string{"echo"}
		c := Client{Offer: offerOf(X25519MLKEM768), Send: []byte("ping"), Want: 4, Tickets: 1}
		c.Offer.ALPN, c.Offer.Status, c.Offer.Suites = []string{"echo"}, true, []Suite{suite}
		out, _ := probeOver(t, c, cfg, tap, theirs)
		if out.Ending != Completed {
			t.Fatalf("%v %q", out.Ending, out.Detail)
		}
		contains(t, Describe(FromClient, tap.sent, out.KeyLog), "ClientHello", `server_name "server.test"`, suite.String(),
			"X25519MLKEM768 1216 bytes", "signature_algorithms mldsa65", "Finished", fmt.Sprintf("%x", "ping"), "close_notify")
		contains(t, Describe(FromServer, tap.received, out.KeyLog), "ServerHello", out.Server.Group.String(),
			fmt.Sprintf("%d bytes", out.Server.Share), `alpn "echo"`, fmt.Sprintf("Certificate, %d", 0)[:12], `subject "CN=mldsa leaf"`,
			"OCSP response, 3508 bytes", "CertificateVerify mldsa65, signature 3309 bytes", "Finished",
			fmt.Sprintf("ticket %d bytes", out.Tickets[0].Bytes), "close_notify")
		without := Describe(FromServer, tap.received, nil)
		contains(t, without, "ServerHello", "not decrypted")
		if strings.Contains(without, "Finished") {
			t.Error("a protected message was read without keys")
		}
		contains(t, Describe("", tap.received, out.KeyLog), "Finished")
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in\n%s", p, text)
		}
	}
}

func TestDescribeRetryAndAlert(t *testing.T) {
	mine, theirs := loopback(t)
	tap := &tapped{Conn: mine}
	s := Server{Identity: authorities()["ecdsa"].id, Retry: &RetryPlan{Group: Kyber768Draft}}
	heard, _ := serveOver(t, s, dialConfig("ecdsa", X25519), tap, theirs)
	if heard.Ending != Alerted {
		t.Fatalf("%v %q", heard.Ending, heard.Detail)
	}
	contains(t, Describe(FromServer, tap.sent, nil), "HelloRetryRequest", "asks for 0x6399", "change_cipher_spec")
	contains(t, Describe(FromClient, tap.received, nil), "alert level 2 illegal_parameter")
}

func TestDescribeTLS12(t *testing.T) {
	mine, theirs := loopback(t)
	tap := &tapped{Conn: mine}
	s := Server{Identity: authorities()["ecdsa"].id, Legacy: &LegacyPlan{Sentinel: true}}
	if heard, _ := serveOver(t, s, dialConfig("ecdsa", X25519), tap, theirs); heard.Ending != Alerted {
		t.Fatalf("%v %q", heard.Ending, heard.Detail)
	}
	contains(t, Describe(FromServer, tap.sent, nil), "downgrade sentinel of TLS 1.2", "2 entries", "ServerKeyExchange", "ServerHelloDone")
}
