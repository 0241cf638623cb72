package defect

// The planted defects of TLS: server, client, pool and OCSP.
const (
	TLSAbsent                          Name = "tls.absent"
	TLSWithoutX25519mlkem768           Name = "tls.without-x25519mlkem768"
	TLSWithoutSecp256r1mlkem768        Name = "tls.without-secp256r1mlkem768"
	TLSWithoutSecp384r1mlkem1024       Name = "tls.without-secp384r1mlkem1024"
	TLSWithoutMlkem1024                Name = "tls.without-mlkem1024"
	TLSWithoutMldsa                    Name = "tls.without-mldsa"
	TLSWithoutTLS12                    Name = "tls.without-tls12"
	TLSWithoutTickets                  Name = "tls.without-tickets"
	TLSHybridFlightCorrupt             Name = "tls.hybrid-flight-corrupt"
	TLSEchoAltered                     Name = "tls.echo-altered"
	TLSServerShareSwapped              Name = "tls.server-share-swapped"
	TLSServerSharePadded               Name = "tls.server-share-padded"
	TLSSecretSwapped                   Name = "tls.secret-swapped"
	TLSSecretKemOnly                   Name = "tls.secret-kem-only"
	TLSKemKeyUnchecked                 Name = "tls.kem-key-unchecked"
	TLSShareLengthUnchecked            Name = "tls.share-length-unchecked"
	TLSShareWrongAlert                 Name = "tls.share-wrong-alert"
	TLSShareCloses                     Name = "tls.share-closes"
	TLSShareHangs                      Name = "tls.share-hangs"
	TLSPointUnchecked                  Name = "tls.point-unchecked"
	TLSZeroSecretAccepted              Name = "tls.zero-secret-accepted"
	TLSClassicalShareLengthUnchecked   Name = "tls.classical-share-length-unchecked"
	TLSUnknownGroupFatal               Name = "tls.unknown-group-fatal"
	TLSKyberDraftSelected              Name = "tls.kyber-draft-selected"
	TLSFallbackUnoffered               Name = "tls.fallback-unoffered"
	TLSClassicalPreferred              Name = "tls.classical-preferred"
	TLSSharedEcdhHangs                 Name = "tls.shared-ecdh-hangs"
	TLSTls12Hybrid                     Name = "tls.tls12-hybrid"
	TLSPaddedFlight                    Name = "tls.padded-flight"
	TLSHybridSlow                      Name = "tls.hybrid-slow"
	TLSPskHybridSlow                   Name = "tls.psk-hybrid-slow"
	TLSNoKeyShareRetried               Name = "tls.no-key-share-retried"
	TLSNoGroupsAccepted                Name = "tls.no-groups-accepted"
	TLSNoSigalgsAccepted               Name = "tls.no-sigalgs-accepted"
	TLSEmptySharesFatal                Name = "tls.empty-shares-fatal"
	TLSSecondShareUnchecked            Name = "tls.second-share-unchecked"
	TLSEmptyShareWrongAlert            Name = "tls.empty-share-wrong-alert"
	TLSTrailingDataIgnored             Name = "tls.trailing-data-ignored"
	TLSDuplicateExtensionIgnored       Name = "tls.duplicate-extension-ignored"
	TLSShareListHangs                  Name = "tls.share-list-hangs"
	TLSNoDowngradeSentinel             Name = "tls.no-downgrade-sentinel"
	TLSRecordVersionStrict             Name = "tls.record-version-strict"
	TLSRecordVersionOdd                Name = "tls.record-version-odd"
	TLSFragmentsRefused                Name = "tls.fragments-refused"
	TLSLongHelloRefused                Name = "tls.long-hello-refused"
	TLSEmptyRecordHangs                Name = "tls.empty-record-hangs"
	TLSMldsaChainIncomplete            Name = "tls.mldsa-chain-incomplete"
	TLSMutualCertUnverified            Name = "tls.mutual-cert-unverified"
	TLSMutualCertNotAsked              Name = "tls.mutual-cert-not-asked"
	TLSMutualSignatureUnchecked        Name = "tls.mutual-signature-unchecked"
	TLSCertificateAlwaysMldsa          Name = "tls.certificate-always-mldsa"
	TLSNoCertificateHangs              Name = "tls.no-certificate-hangs"
	TLSMldsaInTLS12                    Name = "tls.mldsa-in-tls12"
	TLSTicketClassUnbound              Name = "tls.ticket-class-unbound"
	TLSPskWithoutDhe                   Name = "tls.psk-without-dhe"
	TLSStapleMissing                   Name = "tls.staple-missing"
	TLSStapleUnasked                   Name = "tls.staple-unasked"
	TLSStapleNotRefreshed              Name = "tls.staple-not-refreshed"
	TLSClientAbsent                    Name = "tlsclient.absent"
	TLSClientShareSwapped              Name = "tlsclient.share-swapped"
	TLSClientSharePadded               Name = "tlsclient.share-padded"
	TLSClientShareCoefficient          Name = "tlsclient.share-coefficient"
	TLSClientCiphertextLengthUnchecked Name = "tlsclient.ciphertext-length-unchecked"
	TLSClientZeroSecretAccepted        Name = "tlsclient.zero-secret-accepted"
	TLSClientImplicitRejectionIgnored  Name = "tlsclient.implicit-rejection-ignored"
	TLSClientShareGroupUnchecked       Name = "tlsclient.share-group-unchecked"
	TLSClientRetryGroupUnchecked       Name = "tlsclient.retry-group-unchecked"
	TLSClientSecondRetryFollowed       Name = "tlsclient.second-retry-followed"
	TLSClientServerGroupUnchecked      Name = "tlsclient.server-group-unchecked"
	TLSClientSessionIDUnchecked        Name = "tlsclient.session-id-unchecked"
	TLSClientSuiteUnchecked            Name = "tlsclient.suite-unchecked"
	TLSClientSentinelIgnored           Name = "tlsclient.sentinel-ignored"
	TLSClientRecordVersionOdd          Name = "tlsclient.record-version-odd"
	TLSClientAlertsDropped             Name = "tlsclient.alerts-dropped"
	TLSClientWrongAlert                Name = "tlsclient.wrong-alert"
	TLSClientChainUnverified           Name = "tlsclient.chain-unverified"
	TLSClientMldsaRefused              Name = "tlsclient.mldsa-refused"
	TLSClientWithoutHybrid             Name = "tlsclient.without-hybrid"
	TLSClientSignatureUnchecked        Name = "tlsclient.signature-unchecked"
	TLSClientSchemeUnchecked           Name = "tlsclient.scheme-unchecked"
	TLSClientContextIgnored            Name = "tlsclient.context-ignored"
	TLSClientTLS12MldsaAccepted        Name = "tlsclient.tls12-mldsa-accepted"
	TLSClientPskKeOffered              Name = "tlsclient.psk-ke-offered"
	TLSClientEarlyDataOffered          Name = "tlsclient.early-data-offered"
	PoolAbsent                         Name = "pool.absent"
	PoolPolicyIgnored                  Name = "pool.policy-ignored"
	PoolPolicyCheckedLate              Name = "pool.policy-checked-late"
	PoolTicketReused                   Name = "pool.ticket-reused"
	PoolClassShared                    Name = "pool.class-shared"
	PoolKeyWithoutAlpn                 Name = "pool.key-without-alpn"
	PoolKeyWithoutSni                  Name = "pool.key-without-sni"
	PoolKeyWithoutPolicy               Name = "pool.key-without-policy"
	PoolReusesBroken                   Name = "pool.reuses-broken"
	PoolUnbounded                      Name = "pool.unbounded"
	PoolCountersDrift                  Name = "pool.counters-drift"
	OCSPSignatureUnchecked             Name = "ocsp.signature-unchecked"
	OCSPIssuerUnchecked                Name = "ocsp.issuer-unchecked"
	OCSPSerialUnchecked                Name = "ocsp.serial-unchecked"
	OCSPDelegateEkuUnchecked           Name = "ocsp.delegate-eku-unchecked"
	OCSPWindowUnchecked                Name = "ocsp.window-unchecked"
	OCSPStatusIgnored                  Name = "ocsp.status-ignored"
)

var catalogueTLS = []Entry{
	{TLSAbsent, "the TLS ports accept connections and close them at once"},
	{TLSWithoutX25519mlkem768, "the TLS port does not negotiate X25519MLKEM768"},
	{TLSWithoutSecp256r1mlkem768, "the TLS port does not negotiate SecP256r1MLKEM768"},
	{TLSWithoutSecp384r1mlkem1024, "the TLS port does not negotiate SecP384r1MLKEM1024"},
	{TLSWithoutMlkem1024, "the TLS port does not negotiate MLKEM1024"},
	{TLSWithoutMldsa, "the TLS port has no ML-DSA certificate"},
	{TLSWithoutTLS12, "the TLS port does not speak TLS 1.2"},
	{TLSWithoutTickets, "the TLS port sends no session tickets"},
	{TLSHybridFlightCorrupt, "the server's Finished is wrong when a hybrid group was negotiated"},
	{TLSEchoAltered, "one byte of echoed application data is changed"},
	{TLSServerShareSwapped, "the parts of a hybrid server share are in the wrong order"},
	{TLSServerSharePadded, "a hybrid server share has one byte too many"},
	{TLSSecretSwapped, "the two secrets of a hybrid are concatenated in the wrong order"},
	{TLSSecretKemOnly, "the ML-KEM secret alone enters the key schedule of a hybrid"},
	{TLSKemKeyUnchecked, "coefficients of the encapsulation key beyond 3,328 are taken"},
	{TLSShareLengthUnchecked, "a hybrid share of the wrong length is answered with a ServerHello"},
	{TLSShareWrongAlert, "a malformed hybrid share is refused with decode_error"},
	{TLSShareCloses, "a malformed hybrid share closes the connection without an alert"},
	{TLSShareHangs, "a malformed hybrid share leaves the connection open without a word"},
	{TLSPointUnchecked, "a P-256 point of a hybrid share that is compressed or off the curve is taken"},
	{TLSZeroSecretAccepted, "an all-zero X25519 result is taken"},
	{TLSClassicalShareLengthUnchecked, "an X25519 share of 1,216 bytes is answered with a ServerHello"},
	{TLSUnknownGroupFatal, "a hello that lists an unknown group is refused"},
	{TLSKyberDraftSelected, "the obsolete group 0x6399 is selected when it is offered"},
	{TLSFallbackUnoffered, "a server without a common group selects X25519 all the same"},
	{TLSClassicalPreferred, "a server that is shared only X25519 takes it and does not ask for the hybrid"},
	{TLSSharedEcdhHangs, "a hello whose hybrid and classical shares hold the same X25519 key is never answered"},
	{TLSTls12Hybrid, "under TLS 1.2 a ServerKeyExchange names the group 0x11EC"},
	{TLSPaddedFlight, "every encrypted record of the server's flight is padded by 64 bytes"},
	{TLSHybridSlow, "a hybrid key exchange costs the server some milliseconds of CPU more"},
	{TLSPskHybridSlow, "a resumption with a hybrid key exchange costs the server some milliseconds of CPU more"},
	{TLSNoKeyShareRetried, "supported_groups without key_share is answered with a HelloRetryRequest"},
	{TLSNoGroupsAccepted, "key_share without supported_groups is answered with a ServerHello"},
	{TLSNoSigalgsAccepted, "a hello without signature_algorithms is answered with a ServerHello"},
	{TLSEmptySharesFatal, "an empty list of shares is refused"},
	{TLSSecondShareUnchecked, "a second hello with no share, another group's or two is answered with a ServerHello"},
	{TLSEmptyShareWrongAlert, "a share of zero bytes is refused with illegal_parameter"},
	{TLSTrailingDataIgnored, "bytes after the list of shares are skipped"},
	{TLSDuplicateExtensionIgnored, "the second of two key_share extensions is skipped"},
	{TLSShareListHangs, "duplicate, unlisted or unordered shares leave the connection open without a word"},
	{TLSNoDowngradeSentinel, "a TLS 1.2 ServerHello lacks the sentinel"},
	{TLSRecordVersionStrict, "a first hello in a record of version 0x0301 is refused"},
	{TLSRecordVersionOdd, "the server's records carry version 0x0304"},
	{TLSFragmentsRefused, "a hello split over records is refused"},
	{TLSLongHelloRefused, "a hello beyond 4 KiB is refused"},
	{TLSEmptyRecordHangs, "an empty handshake record leaves the connection open without a word"},
	{TLSMldsaChainIncomplete, "the ML-DSA leaf is sent without its intermediate"},
	{TLSMutualCertUnverified, "a client certificate of any issuer is taken"},
	{TLSMutualCertNotAsked, "the port that demands a client certificate does not ask for one"},
	{TLSMutualSignatureUnchecked, "the client's CertificateVerify is not verified"},
	{TLSCertificateAlwaysMldsa, "an ML-DSA certificate is sent to a client that did not offer it"},
	{TLSNoCertificateHangs, "a hello that no certificate suits leaves the connection open without a word"},
	{TLSMldsaInTLS12, "a TLS 1.2 client gets the ML-DSA certificate"},
	{TLSTicketClassUnbound, "a ticket resumes under any group"},
	{TLSPskWithoutDhe, "a resumption goes without a key share"},
	{TLSStapleMissing, "no OCSP response is stapled"},
	{TLSStapleUnasked, "an OCSP response is stapled that was not asked for"},
	{TLSStapleNotRefreshed, "the OCSP response in use is never replaced"},
	{TLSClientAbsent, "the client never dials"},
	{TLSClientShareSwapped, "the parts of the client's hybrid share are in the wrong order"},
	{TLSClientSharePadded, "the client's hybrid share has one byte too many"},
	{TLSClientShareCoefficient, "the client's encapsulation key holds a coefficient of 3,329"},
	{TLSClientCiphertextLengthUnchecked, "a hybrid server share of the wrong length is taken"},
	{TLSClientZeroSecretAccepted, "an all-zero X25519 result is taken"},
	{TLSClientImplicitRejectionIgnored, "a flight that does not decrypt is answered with Finished and application data"},
	{TLSClientShareGroupUnchecked, "a share whose length does not fit its classical group is taken"},
	{TLSClientRetryGroupUnchecked, "a HelloRetryRequest to an unoffered or already shared group is followed"},
	{TLSClientSecondRetryFollowed, "a second HelloRetryRequest is followed"},
	{TLSClientServerGroupUnchecked, "a ServerHello of a group without a share is taken"},
	{TLSClientSessionIDUnchecked, "a wrong legacy_session_id_echo is taken"},
	{TLSClientSuiteUnchecked, "a cipher suite that was not offered, or that changed after the retry, is taken"},
	{TLSClientSentinelIgnored, "a TLS 1.2 ServerHello with the downgrade sentinel is taken"},
	{TLSClientRecordVersionOdd, "the client's later records carry version 0x0304"},
	{TLSClientAlertsDropped, "the client closes without the alert"},
	{TLSClientWrongAlert, "every alert of the client is handshake_failure"},
	{TLSClientChainUnverified, "the client takes a chain of any root"},
	{TLSClientMldsaRefused, "the client refuses every ML-DSA chain"},
	{TLSClientWithoutHybrid, "the client offers no post-quantum group"},
	{TLSClientSignatureUnchecked, "the server's CertificateVerify is not verified"},
	{TLSClientSchemeUnchecked, "the scheme of CertificateVerify need not fit the key"},
	{TLSClientContextIgnored, "a signature with a context, or over a pre-hash, is taken"},
	{TLSClientTLS12MldsaAccepted, "under TLS 1.2 a ServerKeyExchange signed by ML-DSA is taken"},
	{TLSClientPskKeOffered, "psk_ke is offered beside psk_dhe_ke"},
	{TLSClientEarlyDataOffered, "a resumed hello offers early_data"},
	{PoolAbsent, "the lab's HTTP API is not there"},
	{PoolPolicyIgnored, "require-pq offers classical groups too and takes what it gets"},
	{PoolPolicyCheckedLate, "the class is checked only after the request was sent"},
	{PoolTicketReused, "a ticket is offered again and again"},
	{PoolClassShared, "one session cache serves every class"},
	{PoolKeyWithoutAlpn, "the pool's key leaves out the ALPN list"},
	{PoolKeyWithoutSni, "the pool's key leaves out the server name"},
	{PoolKeyWithoutPolicy, "the pool's key leaves out the policy"},
	{PoolReusesBroken, "a connection with unread data goes back to the pool"},
	{PoolUnbounded, "the limits on idle connections and age are ignored"},
	{PoolCountersDrift, "the pool counts each handshake twice"},
	{OCSPSignatureUnchecked, "the signature of a staple is not verified"},
	{OCSPIssuerUnchecked, "the issuer hashes of a staple's CertID are not compared"},
	{OCSPSerialUnchecked, "the serial of a staple is not compared"},
	{OCSPDelegateEkuUnchecked, "a delegated responder needs no id-kp-OCSPSigning"},
	{OCSPWindowUnchecked, "thisUpdate and nextUpdate of a staple are ignored"},
	{OCSPStatusIgnored, "a staple that says revoked or unknown is taken"},
}
