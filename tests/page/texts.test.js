// The texts of the page, its settings and its vendored files.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { after, before } from 'node:test';
import { createRequire } from 'node:module';
import path from 'node:path';

import { Landfall, Visitor, launch, test } from './harness.js';

const PAGE = path.resolve(import.meta.dirname, '../../crates/server/page');

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start();
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

const forms = (entry) => (typeof entry === 'string' ? [entry] : Object.values(entry));
const placeholders = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

async function languages() {
  const files = await readdir(path.join(PAGE, 'lang'));
  return Promise.all(files.sort().map(async (file) => [
    path.basename(file, '.json'), JSON.parse(await readFile(path.join(PAGE, 'lang', file), 'utf8')),
  ]));
}

test('all languages have the same texts with the same placeholders', async () => {
  const all = await languages();
  assert.deepEqual(all.map(([language]) => language), ['de', 'en', 'es', 'fr', 'ja', 'pt']);
  const [, english] = all.find(([language]) => language === 'en');
  for (const [language, texts] of all) {
    assert.deepEqual(Object.keys(texts), Object.keys(english), language);
    for (const [key, entry] of Object.entries(texts)) {
      assert.equal(typeof entry, typeof english[key], `${language} ${key}`);
      const required = placeholders(forms(english[key]).at(-1));
      if (typeof entry === 'object') {
        const { pluralCategories } = new Intl.PluralRules(language).resolvedOptions();
        assert.ok('other' in entry, `${language} ${key}`);
        assert.ok(Object.keys(entry).every((form) => pluralCategories.includes(form)), `${language} ${key}`);
        assert.deepEqual(placeholders(entry.other), required, `${language} ${key}`);
      } else {
        assert.deepEqual(placeholders(entry), required, `${language} ${key}`);
      }
    }
    if (language === 'en') continue;
    // Sentences that were not translated.
    const same = Object.keys(texts).filter((key) => forms(texts[key]).some((text) => /\w{3,} \w{3,}/.test(text) && forms(english[key]).includes(text)));
    assert.deepEqual(same, [], language);
  }
});

test('the scripts and the document use texts that exist, and no others exist', async () => {
  const [, english] = (await languages()).find(([language]) => language === 'en');
  const files = (await readdir(PAGE)).filter((name) => /\.(js|html)$/.test(name));
  const sources = await Promise.all(files.map((name) => readFile(path.join(PAGE, name), 'utf8')));
  const code = sources.join('\n');
  const unused = Object.keys(english).filter((key) => {
    const stem = key.replace(/_reason$|^size_(?!bytes)/, '');
    return ![`'${key}'`, `"${key}"`, `: '${key}'`, `${key}:`, `'${stem}'`].some((use) => code.includes(use));
  });
  assert.deepEqual(unused, []);
  const used = [...code.matchAll(/\btext\('(\w+)'/g), ...code.matchAll(/data-text="(\w+)"/g)].map(([, key]) => key);
  assert.deepEqual(used.filter((key) => !(key in english)), []);
});

test('the page speaks the language of the browser', async () => {
  for (const [locale, language, button, amount] of [
    ['de-AT', 'de', 'Dateien auswählen', '1,5 MB'],
    ['fr-FR', 'fr', 'Choisir des fichiers', '1,5 Mo'],
    ['es-MX', 'es', 'Elegir archivos', '1.5 MB'],
    ['pt-BR', 'pt', 'Escolher arquivos', '1,5 MB'],
    ['ja-JP', 'ja', 'ファイルを選択', '1.5 MB'],
    ['nl-NL', 'en', 'Choose files', '1.5 MB'],
  ]) {
    const visitor = await Visitor.open(browser, landfall.page, { locale, viewport: { width: 320, height: 700 } });
    await visitor.tab.getByRole('button', { name: button, exact: true }).waitFor();
    assert.equal(await visitor.tab.evaluate(() => document.documentElement.lang), language);
    await visitor.choose(await landfall.file('words.bin', 1_500_000), visitor.tab.getByRole('button', { name: button, exact: true }));
    const row = await visitor.row('words.bin').is('done');
    assert.ok((await row.status()).replace(/\s/g, ' ').endsWith(` · ${amount}`), await row.status());
    const empty = await visitor.tab.evaluate(() => [...document.querySelectorAll('[data-text]')]
      .filter((element) => element.textContent === '' || /\{\w+\}/.test(element.textContent)).map(({ outerHTML }) => outerHTML));
    assert.deepEqual(empty, []);
    const wide = await visitor.tab.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wide, 0, `${locale}: the page is ${wide} px too wide`);
    await visitor.leave();
  }
});

test('the page is drawn in a language whose tag is invalid', async () => {
  for (const [tags, language, button, amount] of [
    [['en-US@posix'], 'en', 'Choose files', '1.5 MB'],
    [['de_AT.UTF-8@euro', 'en'], 'de', 'Dateien auswählen', '1,5 MB'],
    [['C'], 'en', 'Choose files', '1.5 MB'],
    [[], 'en', 'Choose files', '1.5 MB'],
  ]) {
    const context = await browser.newContext();
    await context.addInitScript((languages) => {
      Object.defineProperty(navigator, 'languages', { get: () => languages });
      Object.defineProperty(navigator, 'language', { get: () => languages[0] ?? '' });
      delete window.showOpenFilePicker;
    }, tags);
    const visitor = await Visitor.join(context, landfall.page);
    assert.equal(await visitor.tab.evaluate(() => document.documentElement.lang), language);
    await visitor.choose(await landfall.file('tag.bin', 1_500_000), visitor.tab.getByRole('button', { name: button, exact: true }));
    const row = await visitor.row('tag.bin').is('done');
    assert.ok((await row.status()).replace(/\s/g, ' ').endsWith(` · ${amount}`), await row.status());
    await visitor.leave();
  }
});

test('the page and the dashboard write sizes the same way', async () => {
  const source = await readFile(path.join(PAGE, '../dashboard/format.js'), 'utf8');
  const { bytes } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  const counts = Array.from({ length: 1800 }, (_, at) => Math.round(10 ** (at / 120)));
  const visitor = await Visitor.open(browser, landfall.page);
  const shown = await visitor.tab.evaluate(async (all) => {
    const format = await import('./_landfall/format.js');
    return all.map(format.bytes);
  }, counts);
  assert.deepEqual(shown.map((size) => size.replace(/ bytes?$/, ' B')), counts.map(bytes));
  await visitor.leave();
});

test('the vendored tus-js-client is that of npm', async () => {
  const require = createRequire(import.meta.url);
  const folder = path.dirname(require.resolve('tus-js-client/package.json'));
  const { version } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  const vendored = await readFile(path.join(PAGE, 'vendor/tus.min.js'));
  assert.ok(vendored.equals(await readFile(path.join(folder, 'dist/tus.min.js'))));
  const license = await readFile(path.join(PAGE, 'vendor/tus.min.js.LICENSE.txt'), 'utf8');
  assert.ok(license.includes(`tus-js-client ${version}`), 'the version is stated');
  const [, terms] = (await readFile(path.join(folder, 'LICENSE'), 'utf8')).split('\n\n', 2);
  assert.ok(license.includes(terms.trim()));
});
