// Hybrid post-quantum TLS handshakes, and the share of servers' answers that really were.
//
//   TLS=127.0.0.1:8443 ROOTS=roots.pem SNI=server.test assay k6 scenarios/k6/handshake.js
//
// Without ROOTS the certificate is not verified: the handshakes are measured, nothing is trusted.
import { check } from 'k6';
import { pqtls } from 'k6/x/assay';

const address = __ENV.TLS || '127.0.0.1:8443';
const roots = __ENV.ROOTS ? open(__ENV.ROOTS) : '';

export const options = {
  vus: 2,
  iterations: 40,
  thresholds: {
    pqtls_handshake_failed: ['rate==0'],
    checks: ['rate==1'],
  },
};

export default function () {
  const answer = pqtls(address, {
    serverName: __ENV.SNI || '',
    roots: roots,
    insecureSkipVerify: roots === '',
    timeout: '5s',
  });
  check(answer, {
    'the handshake is made': (a) => a.ok || console.error(a.error),
    'with a hybrid group': (a) => a.postQuantum && a.group === 'X25519MLKEM768',
    'over TLS 1.3': (a) => a.version === 'TLS 1.3',
  });
}
