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

/** All private networks are those of every other container, too. */
test('no manifest trusts more than one proxy or network of proxies', async () => {
  const trusted = []
  for (const name of FILES) {
    const [, workload] = await manifests(name)
    for (const { env = [] } of workload.spec.template.spec.containers) {
      trusted.push(...env.filter((one) => one.name === 'LANDFALL_TRUSTED_PROXIES').map((one) => one.value))
    }
  }
  const compose = parse(await packaged('compose/nodes.yaml'), { merge: true })
  const { caddy, ...others } = compose.services
  const address = caddy.networks.proxy.ipv4_address
  for (const { image, environment, networks } of Object.values(others)) {
    if (image !== 'landfall') continue
    assert.ok(networks.includes('proxy'))
    assert.equal(environment.LANDFALL_TRUSTED_PROXIES, address)
  }
  assert.equal(compose.networks.proxy.ipam.config[0].subnet, address.replace(/\d+$/, '0/24'))
  assert.deepEqual(trusted, [])
})

test('an invalid manifest is found', async () => {
  const [service] = await manifests('files')
  service.spec.ports[0].port = 'eighty'
  assert.throws(() => validate(service))
})

for (const [file, count] of Object.entries({ files: 1, gcs: 1, azure: 1, nodes: 2 })) {
  test(`the servers of ${file}.yaml start with their settings`, async (t) => {
    const compose = parse(await packaged(`compose/${file}.yaml`), { merge: true })
    const servers = Object.values(compose.services).filter(({ image }) => image === 'landfall')
    assert.equal(servers.length, count)
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
