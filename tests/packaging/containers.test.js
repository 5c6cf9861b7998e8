// Container manifests are valid, and their settings are those of the program.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import { accepts, checkServer, packaged, parseManifests, validate } from './lib/kubernetes.js'

const FILES = ['files', 'bucket']

const manifests = async (name) => parseManifests(await packaged(`kubernetes/${name}.yaml`))

for (const name of FILES) {
  test(`the manifests of ${name}.yaml conform to the schemas of Kubernetes`, async (t) => {
    const all = await manifests(name)
    assert.equal(all.length, 4)
    all.forEach(validate)

    const labels = { 'app.kubernetes.io/name': 'landfall' }
    const [service, workload, budget, policy] = all
    for (const selector of [service.spec.selector, workload.spec.selector.matchLabels,
      workload.spec.template.metadata.labels, budget.spec.selector.matchLabels,
      policy.spec.podSelector.matchLabels]) assert.deepEqual(selector, labels)
    await checkServer(t, workload)
  })
}

test('an invalid manifest is found', async () => {
  const [service] = await manifests('files')
  service.spec.ports[0].port = 'eighty'
  assert.throws(() => validate(service))
})

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
