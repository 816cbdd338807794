// The suite's own verdict on each result: node verdicts.mjs SUITE RESULTS
import fs from 'fs'
import path from 'path'

const [suite, results] = process.argv.slice(2)
const engine = fs.existsSync(path.join(suite, 'test-engine')) ? 'test-engine/lib/results.mjs' : 'lib/display.mjs'
const tests = (await import(path.join(suite, 'tests/index.mjs'))).default
const { determineTestResult } = await import(path.join(suite, engine))
const found = JSON.parse(fs.readFileSync(results))
const verdicts = []
for (const section of tests) {
  for (const test of section.tests) {
    if (test.browser_only) continue
    const result = found[test.id]
    verdicts.push({
      id: test.id,
      section: section.id,
      kind: test.kind || 'required',
      verdict: determineTestResult(tests, test.id, found)[2],
      message: Array.isArray(result) ? result[1] : ''
    })
  }
}
console.log(JSON.stringify(verdicts))
