// The tests of the page that a long run repeats in Firefox.

process.env.BROWSER = 'firefox';
const names = ['access', 'many', 'resume', 'upload'];
for (const name of names) await import(`./${name}.test.js`);
