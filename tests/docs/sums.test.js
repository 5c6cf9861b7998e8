// The sums of bench/capacity.md are recomputed from the inputs that the page states.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rows } from './lib/tables.js'

const PAGE = 'bench/capacity.md'
const UNITS = {
  KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40,
  kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15,
  'GB/s': 1e9, 'MB/s': 1e6, 'µs': 1e-6, ms: 1e-3, thousand: 1e3, million: 1e6, billion: 1e9,
}

/** The number of a cell such as `1,200`, `40 GiB` or `2.4 million a month`. */
function valueOf(cell) {
  const [, number, unit] = cell.match(/^(-?[\d.,]+)(?: ([\w/µ]+))?/) ?? assert.fail(`no number: ${cell}`)
  return Number(number.replaceAll(',', '')) * (UNITS[unit] ?? 1)
}

/** Evaluates a formula of names, numbers, `+ - * / ( )` and `ceil( )`. */
function evaluate(formula, values) {
  assert.match(formula, /^[\w.+\-*/(), ]+$/, formula)
  const names = Object.keys(values)
  const used = formula.match(/[a-z_]\w*/g) ?? []
  for (const name of used) assert.ok(name === 'ceil' || names.includes(name), `${formula}: ${name} is unknown`)
  return new Function('ceil', ...names, `return ${formula}`)(Math.ceil, ...Object.values(values))
}

const code = (cell) => cell.match(/^`([^`]+)`$/)?.[1] ?? assert.fail(`not a formula: ${cell}`)

test('every sum of the capacities is that of its inputs', async () => {
  const [, ...given] = await rows(PAGE, '## Inputs')
  const inputs = {}
  for (const [name, , value, from] of given) {
    assert.match(from, /^(default|example|measured|counted|assumed)\b/, `${name}: ${from}`)
    inputs[code(name)] = valueOf(value)
  }
  const [head, ...sums] = await rows(PAGE, '## What each size needs')
  const sizes = head.slice(2, -1)
  assert.deepEqual(sizes.map((size) => valueOf(size)), [1, 10, 100, 1000])
  const used = new Set()
  for (const [what, formula, ...cells] of sums) {
    const kind = cells.pop()
    assert.match(kind, /^(measured|simulated|calculated)\b/, `${what}: ${kind}`)
    assert.equal(cells.length, sizes.length, what)
    for (const name of formula.match(/[a-z_]\w*/g) ?? []) used.add(name)
    cells.forEach((cell, at) => {
      const value = evaluate(code(formula), { ...inputs, n: valueOf(sizes[at]) })
      const stated = valueOf(cell)
      assert.ok(Math.abs(stated - value) <= Math.abs(value) * 0.03, `${what}, ${sizes[at]}: ${cell}, and it is ${value}`)
    })
  }
  const [, ...month] = await rows(PAGE, '## One petabyte a month')
  for (const [what, formula, result] of month) {
    const value = evaluate(code(formula), inputs)
    for (const name of formula.match(/[a-z_]\w*/g) ?? []) used.add(name)
    assert.ok(Math.abs(valueOf(result) - value) <= Math.abs(value) * 0.03, `${what}: ${result}, and it is ${value}`)
  }
  assert.ok(sums.length >= 10 && month.length >= 8, `${sums.length} and ${month.length} sums`)
  assert.deepEqual(Object.keys(inputs).filter((name) => !used.has(name)), [], 'inputs that no sum has')
})
