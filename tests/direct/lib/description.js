// docs/direct-api.yaml.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import Ajv from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { parse } from 'yaml'

export const ROOT = new URL('../../../', import.meta.url)
export const described = parse(await readFile(new URL('docs/direct-api.yaml', ROOT), 'utf8'))

const ajv = new Ajv({ strict: false, allErrors: true })
formats(ajv)
ajv.addSchema({ $id: 'api', components: described.components })

/** Validates a value against a schema of the description. */
export function check(value, schema) {
  const isValid = ajv.validate({ $ref: `api#/components/schemas/${schema}` }, value)
  assert.ok(isValid, `${schema}: ${ajv.errorsText()}\n${JSON.stringify(value, null, 1)}`)
  return value
}
