// The Helm chart renders valid manifests for both storages, and settings that the program accepts.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { parse } from 'yaml'
import { tempDir } from '../clients/lib/source.js'
import { find } from '../nodes/lib/services.js'
import { run } from '../hooks/lib/programs.js'
import {
  accepts, checkServer, landfall, packaged, packagedPath, parseManifests, validate, version,
} from './lib/kubernetes.js'

const CHART = packagedPath('helm/landfall')
const cache = process.env.XDG_CACHE_HOME || `${process.env.HOME}/.cache`
const HELM = find('helm', `${cache}/landfall-tests/helm`)

const BUCKET = {
  storage: 'bucket',
  settings: { 's3-bucket': 'my-uploads', 's3-region': 'eu-central-1', grants: true },
  secret: {
    name: 'uploads-secret',
    variables: {
      LANDFALL_DATABASE: 'database',
      LANDFALL_ADMIN_KEY: 'admin-key',
      AWS_ACCESS_KEY_ID: 'access-key-id',
      AWS_SECRET_ACCESS_KEY: 'secret-access-key',
    },
  },
}
const ALL = {
  fullnameOverride: 'uploads',
  settings: { port: 9000, 'max-size': 1.5e12, 'cors-allow-origin': '^https://(a|b)\\.example$', 'trusted-proxies': ['10.0.0.0/8'] },
  ingress: { enabled: true, className: 'nginx', hosts: ['a.example', 'b.example'], tlsSecret: 'cert', annotations: { a: 'b' } },
  serviceAccount: { annotations: { role: 'arn' } },
  serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
  networkPolicy: { egressPorts: [8000] },
  persistence: { size: '1Ti', storageClass: 'fast' },
  imagePullSecrets: [{ name: 'registry' }],
  podAnnotations: { c: 'd' },
  nodeSelector: { disk: 'ssd' },
  tolerations: [{ key: 'uploads', operator: 'Exists' }],
  drainDelaySeconds: 0,
}

const COMMANDS = {
  lint: ['lint', '--strict', CHART],
  template: ['template', 'site', CHART],
  install: ['install', '--dry-run=client', 'site', CHART],
}

/** Runs helm with values in a file. */
async function helm(t, command, values) {
  const dir = await tempDir(t)
  await writeFile(`${dir}/values.yaml`, JSON.stringify(values))
  return run(HELM, [...COMMANDS[command], '--values', `${dir}/values.yaml`], { env: { HOME: dir, PATH: process.env.PATH } })
}

/** The manifests of a release by kind, and a file with its settings. */
async function render(t, values) {
  const { code, stdout, stderr } = await helm(t, 'template', values)
  assert.equal(code, 0, stderr)
  const all = parseManifests(stdout)
  for (const manifest of all) if (manifest.kind !== 'ServiceMonitor') validate(manifest)
  const kinds = Object.fromEntries(all.map((manifest) => [manifest.kind, manifest]))
  assert.equal(Object.keys(kinds).length, all.length)
  const dir = await tempDir(t)
  const config = `${dir}/landfall.toml`
  await writeFile(config, kinds.ConfigMap.data['landfall.toml'])
  return { kinds, config: ['--config', config] }
}

for (const [title, values, kind] of [
  ['a volume', {}, 'StatefulSet'],
  ['a bucket', BUCKET, 'Deployment'],
  ['a volume with all options', ALL, 'StatefulSet'],
  ['a bucket with all options', { ...ALL, ...BUCKET }, 'Deployment'],
]) {
  test(`the chart on ${title} renders valid manifests`, async (t) => {
    const linted = await helm(t, 'lint', values)
    assert.equal(linted.code, 0, linted.stdout + linted.stderr)

    const { kinds, config } = await render(t, values)
    const workload = kinds[kind]
    const { containers: [container], volumes } = workload.spec.template.spec
    assert.deepEqual(container.args, ['--config', '/etc/landfall/landfall.toml'])
    const settings = await checkServer(t, workload, config)
    const isBucket = kind === 'Deployment'
    assert.equal(/^s3-bucket = "my-uploads"/m.test(settings), isBucket)
    assert.equal(/^upload-dir = "\/srv\/tusd-data\/data"/m.test(settings), !isBucket)

    const labels = { 'app.kubernetes.io/name': 'landfall', 'app.kubernetes.io/instance': 'site' }
    assert.deepEqual(workload.spec.selector.matchLabels, labels)
    assert.deepEqual(workload.spec.template.metadata.labels, { ...workload.spec.template.metadata.labels, ...labels })
    assert.deepEqual(kinds.Service.spec.selector, labels)
    assert.deepEqual(kinds.PodDisruptionBudget.spec.selector.matchLabels, labels)
    assert.deepEqual(kinds.NetworkPolicy.spec.podSelector.matchLabels, labels)
    assert.equal(workload.spec.template.spec.serviceAccountName, kinds.ServiceAccount.metadata.name)

    const mounted = new Set(container.volumeMounts.map(({ name }) => name))
    const claims = (workload.spec.volumeClaimTemplates ?? []).map(({ metadata }) => metadata.name)
    assert.deepEqual(mounted, new Set([...volumes.map(({ name }) => name), ...claims]))
    const secret = volumes.find((volume) => volume.secret)?.secret.secretName
    assert.equal(secret, values.secret?.name)
  })
}

test('a bucket may be in another cloud', async (t) => {
  const clouds = {
    'gcs-bucket': { GCS_SERVICE_ACCOUNT: 'service-account.json' },
    'azure-storage': { AZURE_STORAGE_ACCOUNT: 'storage-account', AZURE_STORAGE_KEY: 'storage-key' },
  }
  for (const [name, credentials] of Object.entries(clouds)) {
    const variables = { LANDFALL_DATABASE: 'database', LANDFALL_ADMIN_KEY: 'admin-key', ...credentials }
    const values = {
      storage: 'bucket', settings: { [name]: 'my-uploads', grants: true }, secret: { name: 'cloud', variables },
      podLabels: { 'azure.workload.identity/use': 'true' },
    }
    const { kinds, config } = await render(t, values)
    const lines = kinds.ConfigMap.data['landfall.toml'].split('\n')
    for (const line of [`${name} = "my-uploads"`, 'lease = "store"']) assert.ok(lines.includes(line), lines.join('\n'))
    await checkServer(t, kinds.Deployment, config)
    const { metadata, spec: { containers: [{ env }] } } = kinds.Deployment.spec.template
    for (const [variable, key] of Object.entries(credentials)) {
      assert.ok(env.some(({ name: of, value }) => of === `${variable}_FILE` && value.endsWith(`/${key}`)), variable)
    }
    assert.equal(metadata.labels['azure.workload.identity/use'], 'true')
    const ports = kinds.NetworkPolicy.spec.egress[0].ports.map(({ port }) => port)
    assert.deepEqual(ports, [53, 53, 443, 5432, 6379, ...name === 'gcs-bucket' ? [80, 988] : []])
  }
})

test('an ingress is trusted by its network, and none by default', async (t) => {
  const { config } = await render(t, {})
  assert.doesNotMatch(await accepts(t, config, {}), /^trusted-proxies = .*private/m)
  for (const [settings, isTold] of [[{}, true], [{ 'trusted-proxies': ['10.1.0.0/16'] }, false]]) {
    const { code, stdout, stderr } = await helm(t, 'install', { ingress: { enabled: true }, settings })
    assert.equal(code, 0, stderr)
    assert.equal(stdout.includes('The ingress is not trusted yet'), isTold)
  }
})

test('values reach the manifests', async (t) => {
  const { kinds, config } = await render(t, ALL)
  const settings = await accepts(t, config, {})
  assert.ok(settings.includes(`\ncors-allow-origin = ${JSON.stringify(ALL.settings['cors-allow-origin'])}`), settings)
  assert.match(settings, /^max-size = "?1500000000000"? /m)
  assert.deepEqual(kinds.Ingress.spec.rules.map(({ host }) => host), ['a.example', 'b.example'])
  const { service } = kinds.Ingress.spec.rules[0].http.paths[0].backend
  assert.deepEqual(service, { name: kinds.Service.metadata.name, port: { name: 'http' } })
  const { spec, metadata } = kinds.ServiceMonitor
  assert.equal(metadata.labels.release, 'prometheus')
  assert.deepEqual(spec.selector.matchLabels, kinds.Service.spec.selector)
  assert.deepEqual(spec.endpoints, [{ port: 'http', path: '/metrics', interval: '30s' }])
  assert.deepEqual(kinds.NetworkPolicy.spec.egress[0].ports.map(({ port }) => port), [53, 53, 8000])
  const [claim] = kinds.StatefulSet.spec.volumeClaimTemplates
  assert.equal(claim.spec.resources.requests.storage, '1Ti')
  assert.equal(claim.spec.storageClassName, 'fast')
})

test('the notes say where to upload', async (t) => {
  const notes = async (values) => (await helm(t, 'install', values)).stdout.split('NOTES:')[1]
  assert.match(await notes(BUCKET), /in a bucket[^]*port-forward service\/site-landfall[^]*uploads-secret must have: access-key-id, admin-key/)
  assert.match(await notes(ALL), /on a volume[^]*https:\/\/a\.example\/files\/\n {2}https:\/\/b\.example\/files\/\n/)
})

test('another configuration restarts the servers', async (t) => {
  const sum = async (values) => {
    const { kinds } = await render(t, values)
    return kinds.StatefulSet.spec.template.metadata.annotations['checksum/config']
  }
  const first = await sum({})
  assert.equal(await sum({ service: { port: 81 } }), first)
  assert.notEqual(await sum({ settings: { 'max-size': '1GiB' } }), first)
})

for (const [values, reason] of [
  [{ storage: 'disk' }, /storage/],
  [{ storag: 'volume' }, /storag/],
  [{ storage: 'bucket', settings: { database: 'postgres://db/x' } }, /needs settings\.s3-bucket/],
  [{ storage: 'bucket', settings: { 's3-bucket': 'b' } }, /needs a PostgreSQL database/],
  [{ settings: { 'upload-dir': '/tmp' } }, /upload-dir/],
  [{ settings: { port: '8080' } }, /port/],
]) {
  test(`the chart rejects ${JSON.stringify(values)}`, async (t) => {
    const { code, stderr } = await helm(t, 'template', values)
    assert.notEqual(code, 0)
    assert.match(stderr, reason)
  })
}

test('a setting that does not exist is found', async (t) => {
  const { config } = await render(t, { settings: { 'max-sise': '1GiB' } })
  const { code, stderr } = await landfall(['config', 'check', '--offline', ...config], {})
  assert.notEqual(code, 0)
  assert.match(stderr, /max-sise/)
})

test('the chart has the version of the program', async () => {
  const chart = parse(await packaged('helm/landfall/Chart.yaml'))
  assert.deepEqual([chart.version, chart.appVersion], [await version(), await version()])
})
