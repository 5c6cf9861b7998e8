// Checks manifests against the schemas of Kubernetes, and what their containers run.

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { Deployment, StatefulSet } from 'kubernetes-models/apps/v1'
import { Ingress, NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { ConfigMap, Service, ServiceAccount } from 'kubernetes-models/v1'
import { tempDir } from '../../clients/lib/source.js'
import { run } from '../../hooks/lib/programs.js'

const KINDS = {
  ConfigMap, Deployment, Ingress, NetworkPolicy, PodDisruptionBudget, Service, ServiceAccount, StatefulSet,
}

export const packagedPath = (path) => fileURLToPath(new URL(`../../../packaging/${path}`, import.meta.url))
export const packaged = (path) => readFile(packagedPath(path), 'utf8')
export const landfall = (args, env) =>
  run(process.env.LANDFALL_BIN, args, { env: { PATH: process.env.PATH, ...env } })

export async function version() {
  const { stdout } = await landfall(['version'], {})
  return stdout.match(/^Version: (\S+)/m)[1]
}

export function parseManifests(text) {
  return parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, [])
    return document.toJS()
  })
}

/** Throws if a manifest does not conform to the schema of its kind. */
export function validate(manifest) {
  assert.ok(KINDS[manifest.kind], manifest.kind)
  new KINDS[manifest.kind](manifest).validate()
}

/** Checks the settings of a container, with secrets in a directory of this machine. */
export async function accepts(t, args, env) {
  const dir = await tempDir(t)
  const secrets = { database: 'postgres://landfall:secret@postgres/landfall', 'max-size': '1GiB' }
  const local = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)]))
  for (const [name, value] of Object.entries(local)) {
    if (!value.startsWith('/run/secrets/')) continue
    const file = value.split('/').at(-1)
    await writeFile(`${dir}/${file}`, `${secrets[file] ?? '0123456789abcdef0123'}\n`)
    local[name] = `${dir}/${file}`
  }
  const checked = await landfall(['config', 'check', '--offline', '--all', ...args], local)
  assert.equal(checked.code, 0, checked.stderr)
  assert.equal(checked.stderr, '')
  return checked.stdout
}

/** Checks the server of a StatefulSet or Deployment that runs with these arguments. Returns its settings. */
export async function checkServer(t, { spec: { template: { spec } } }, args = spec.containers[0].args) {
  const [container] = spec.containers
  assert.equal(container.image, `landfall:${await version()}`)
  assert.equal(container.securityContext.readOnlyRootFilesystem, true)
  const env = Object.fromEntries(container.env.map(({ name: key, value }) => [key, value]))
  const settings = await accepts(t, args, env)
  const port = Number(settings.match(/^port = (\d+)/m)[1])
  assert.deepEqual(container.ports, [{ name: 'http', containerPort: port }])
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    assert.ok(['/healthz', '/readyz'].includes(container[probe].httpGet.path))
  }
  // Seconds of a graceful shutdown: see docs/service.md.
  const shutdown = Number(settings.match(/^shutdown-timeout = "(\d+)s"/m)[1])
  const delay = container.lifecycle?.preStop.sleep.seconds ?? 0
  assert.ok(spec.terminationGracePeriodSeconds >= delay + shutdown + 5 + 30)
  return settings
}
