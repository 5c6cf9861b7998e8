// Container manifests are valid, and their settings are those of the program.

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { Deployment, StatefulSet } from 'kubernetes-models/apps/v1'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { Service } from 'kubernetes-models/v1'
import { tempDir } from '../clients/lib/source.js'
import { run } from '../hooks/lib/programs.js'

const KINDS = { Deployment, StatefulSet, NetworkPolicy, PodDisruptionBudget, Service }
const FILES = ['files', 'bucket']

const packaged = (path) => readFile(fileURLToPath(new URL(`../../packaging/${path}`, import.meta.url)), 'utf8')
const landfall = (args, env) => run(process.env.LANDFALL_BIN, args, { env: { PATH: process.env.PATH, ...env } })

async function manifests(name) {
  return parseAllDocuments(await packaged(`kubernetes/${name}.yaml`)).map((document) => {
    assert.deepEqual(document.errors, [])
    return document.toJS()
  })
}

/** Checks the settings of a container, with secrets in a directory of this machine. */
async function accepts(t, args, env) {
  const dir = await tempDir(t)
  const secrets = { database: 'postgres://landfall:secret@postgres/landfall', 'max-size': '1GiB' }
  const local = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)]))
  for (const [name, value] of Object.entries(local)) {
    if (!value.startsWith('/run/secrets/')) continue
    const file = value.split('/').at(-1)
    await mkdir(dir, { recursive: true })
    await writeFile(`${dir}/${file}`, `${secrets[file] ?? '0123456789abcdef0123'}\n`)
    local[name] = `${dir}/${file}`
  }
  const checked = await landfall(['config', 'check', '--offline', ...args], local)
  assert.equal(checked.code, 0, checked.stderr)
  assert.equal(checked.stderr, '')
  return checked.stdout
}

for (const name of FILES) {
  test(`the manifests of ${name}.yaml conform to the schemas of Kubernetes`, async (t) => {
    const all = await manifests(name)
    assert.equal(all.length, 4)
    for (const manifest of all) new KINDS[manifest.kind](manifest).validate()

    const labels = { 'app.kubernetes.io/name': 'landfall' }
    const [service, workload, budget, policy] = all
    for (const selector of [service.spec.selector, workload.spec.selector.matchLabels,
      workload.spec.template.metadata.labels, budget.spec.selector.matchLabels,
      policy.spec.podSelector.matchLabels]) assert.deepEqual(selector, labels)

    const [container] = workload.spec.template.spec.containers
    assert.equal(container.image, `landfall:${await version()}`)
    assert.equal(container.securityContext.readOnlyRootFilesystem, true)
    const env = Object.fromEntries(container.env.map(({ name: key, value }) => [key, value]))
    const settings = await accepts(t, container.args, env)
    const port = Number(settings.match(/^port = (\d+)/m)[1])
    assert.deepEqual(container.ports, [{ name: 'http', containerPort: port }])
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
      assert.ok(['/healthz', '/readyz'].includes(container[probe].httpGet.path))
    }
    // Seconds of a graceful shutdown: see docs/service.md.
    const shutdown = Number(settings.match(/^shutdown-timeout = "(\d+)s"/m)[1])
    assert.ok(workload.spec.template.spec.terminationGracePeriodSeconds >= shutdown + 5 + 30)
  })
}

test('an invalid manifest is found', async () => {
  const [service] = await manifests('files')
  service.spec.ports[0].port = 'eighty'
  assert.throws(() => new Service(service).validate())
})

async function version() {
  const { stdout } = await landfall(['version'], {})
  return stdout.match(/^Version: (.*)$/m)[1]
}

for (const file of ['files', 'nodes']) {
  test(`the servers of ${file}.yaml start with their settings`, async (t) => {
    const compose = parse(await packaged(`compose/${file}.yaml`), { merge: true })
    const servers = Object.values(compose.services).filter(({ image }) => image === 'landfall')
    assert.equal(servers.length, file === 'files' ? 1 : 2)
    for (const { command = [], environment, secrets = [], read_only } of servers) {
      await accepts(t, command, environment)
      assert.equal(read_only, true)
      for (const secret of secrets) assert.ok(compose.secrets[secret], secret)
      for (const value of Object.values(environment)) {
        const named = /^\/run\/secrets\/(.*)$/.exec(value)
        if (named) assert.ok(secrets.includes(named[1]), value)
      }
    }
    for (const service of Object.values(compose.services)) {
      for (const volume of service.volumes ?? []) assert.ok(volume.split(':')[0] in compose.volumes, volume)
      for (const { source } of service.configs ?? []) assert.ok(compose.configs[source], source)
    }
  })
}

test('the image runs the program as the image of tusd does', async () => {
  const lines = (await packaged('Containerfile')).split('\n')
  for (const line of ['USER 1000:1000', 'WORKDIR /srv/tusd-data', 'EXPOSE 8080',
    'ENTRYPOINT ["/usr/local/bin/landfall"]', 'CMD ["--hooks-dir", "/srv/tusd-hooks"]']) {
    assert.ok(lines.includes(line), line)
  }
})
