// A certificate of 127.0.0.1 that only the test's clients trust.

import { execFile } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { tempDir } from './source.js'

/** Creates one in a directory of test `t`: its files, and its flag of Chromium's. */
export async function createCertificate(t) {
  const dir = await tempDir(t)
  const [certificate, key] = ['cert.pem', 'key.pem'].map((name) => join(dir, name))
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '10',
    '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate,
    // Clients of rustls take no certificate of an authority as that of a server.
    '-addext', 'basicConstraints=critical,CA:FALSE',
  ])
  const { publicKey } = new X509Certificate(await readFile(certificate))
  const spki = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
  return {
    certificate,
    args: ['-tls-certificate', certificate, '-tls-key', key],
    trust: `--ignore-certificate-errors-spki-list=${spki}`,
  }
}
