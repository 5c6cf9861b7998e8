// The samples of the documentation are valid: settings are checked by the program, configurations of proxies
// by the proxies, other languages by their parsers.

import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { tempDir } from '../clients/lib/source.js'
import { run } from '../hooks/lib/programs.js'
import { find } from '../nodes/lib/services.js'
import { blocks, pages } from './lib/blocks.js'
import { cleanEnv } from './lib/terminal.js'

async function succeeds(program, args, options = {}) {
  const done = await run(program, args, { ...options, env: { ...cleanEnv(), ...options.env } })
  assert.equal(done.code, 0, `${program} ${args.join(' ')}\n${done.stdout}${done.stderr}`)
  return done
}

async function file(dir, name, text) {
  await writeFile(join(dir, name), text)
  return join(dir, name)
}

/** A certificate and its key in one file. */
async function certificate(dir) {
  const path = join(dir, 'certificate.pem')
  await succeeds('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
    '-subj', '/CN=test', '-keyout', path, '-out', `${path}.crt`])
  await succeeds('sh', ['-c', 'cat "$1.crt" >> "$1"', 'sh', path])
  return path
}

const CHECKS = {
  toml: async (dir, text) => {
    const path = await file(dir, 'sample.toml', text)
    // The manifest of a Rust program is no configuration.
    if (text.startsWith('[dependencies]')) {
      await succeeds('python3', ['-c', 'import sys, tomllib; tomllib.load(open(sys.argv[1], "rb"))', path])
      return
    }
    const { stderr } = await succeeds(process.env.LANDFALL_BIN, ['config', 'check', '--offline', '--config', path])
    assert.equal(stderr, '')
  },
  yaml: (dir, text) => {
    for (const { errors, warnings } of parseAllDocuments(text)) assert.deepEqual([...errors, ...warnings], [])
  },
  // One value, or one in each line.
  json: (dir, text) => {
    const values = /^\{.*\}\n\{/.test(text) ? text.trim().split('\n') : [text]
    for (const value of values) JSON.parse(value)
  },
  nginx: async (dir, text) => {
    const path = await certificate(dir)
    const servers = /^server \{/m.test(text) ? text : `upstream landfall { server 127.0.0.1:8080; }\nserver {\n${text}}\n`
    const config = await file(dir, 'nginx.conf', `pid ${dir}/nginx.pid;
user root root;
events {}
http {
  access_log off;
  ssl_certificate ${path};
  ssl_certificate_key ${path};
${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `  ${name}_temp_path ${dir}/${name};`).join('\n')}
${servers}}
`)
    await succeeds(find('nginx', '/usr/sbin'), ['-t', '-q', '-p', dir, '-c', config, '-e', join(dir, 'error.log')])
  },
  caddyfile: async (dir, text) => {
    const config = await file(dir, 'Caddyfile', text)
    await succeeds('caddy', ['validate', '--adapter', 'caddyfile', '--config', config], { env: { HOME: dir } })
  },
  haproxy: async (dir, text) => {
    const path = '/etc/haproxy/uploads.pem'
    // TCP has no certificate.
    assert.ok(text.includes(path) || text.includes('mode tcp'))
    const config = await file(dir, 'haproxy.cfg', text.replace(path, await certificate(dir)))
    await succeeds(find('haproxy', '/usr/sbin'), ['-c', '-q', '-f', config])
  },
  ini: async (dir, text) => {
    for (const line of text.split('\n')) assert.match(line, /^(|#.*|\[(Unit|Service)\]|[A-Z]\w+=.*)$/)
  },
  js: async (dir, text) => {
    await succeeds(process.execPath, ['--check', await file(dir, 'sample.mjs', text)])
  },
  python: async (dir, text) => {
    await succeeds('python3', ['-c', 'import ast, sys; ast.parse(open(sys.argv[1]).read())', await file(dir, 'sample.py', text)])
  },
}

/** What another test runs, or what is not checked. */
const ELSEWHERE = {
  sh: 'commands.test.js',
  rust: 'part rust compiles it',
  'rust,no_run': 'part rust compiles it',
  html: 'a parser of HTML rejects nothing',
  dockerfile: 'needs a container engine',
  php: 'needs PHP',
  text: 'output and drawings',
}

const seen = new Set()
for (const page of await pages()) {
  test(`the samples of ${page}`, { timeout: 120_000 }, async (t) => {
    for (const { language, text, line } of await blocks(page)) {
      seen.add(language)
      if (language in ELSEWHERE) continue
      await t.test(`${language}, line ${line}`, async (t) => {
        assert.ok(CHECKS[language], `nothing checks "${language}"`)
        const dir = join(await tempDir(t), 'sample')
        await mkdir(dir)
        await CHECKS[language](dir, text)
      })
    }
  })
}

test('each language that is listed exists', () => {
  assert.deepEqual([...Object.keys(CHECKS), ...Object.keys(ELSEWHERE)].filter((name) => !seen.has(name)), [])
})
