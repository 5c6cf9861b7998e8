// The tests of the page that run in Firefox as well.

process.env.BROWSER = 'firefox';
for (const name of ['access', 'many', 'resume', 'upload']) await import(`./${name}.test.js`);
