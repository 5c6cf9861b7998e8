// The texts of the page, in the first of the browser's languages that there is a translation for.

const LANGUAGES = ['en', 'de', 'es', 'fr', 'ja', 'pt'];

const languageOf = (tag) => /^[a-z]*/.exec(tag.toLowerCase())[0];

const preferred = navigator.languages.find((tag) => LANGUAGES.includes(languageOf(tag))) ?? 'en';
const language = languageOf(preferred);
/** The language with its region, for the format of numbers. */
const locale = localeOf(preferred);

const plurals = new Intl.PluralRules(locale);
const texts = await (await fetch(new URL(`./lang/${language}.json`, import.meta.url))).json();

/**
 * Returns a text with its placeholders filled in.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values] `count` also selects the plural form
 */
export function text(key, values = {}) {
  const found = texts[key];
  const template = typeof found === 'string' ? found : (found[plurals.select(values.count)] ?? found.other);
  return template.replace(/\{(\w+)\}/g, (_, name) => (
    typeof values[name] === 'number' ? number(values[name]) : values[name]
  ));
}

/** Returns a locale that `Intl` accepts: some browsers report names of the system, such as `en-US@posix`. */
function localeOf(tag) {
  try {
    return new Intl.Locale(tag.split('@')[0]).toString();
  } catch {
    return language;
  }
}

/** Formats a number. */
export function number(value, options = {}) {
  return value.toLocaleString(locale, options);
}

/** Formats the day of a time (milliseconds since 1970, or RFC 3339), and more with options of `Intl`. */
export function day(time, options = {}) {
  return new Date(time).toLocaleString(locale, { dateStyle: 'medium', ...options });
}

/** Fills in the texts of the document. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll('[data-text]')) {
    element.textContent = text(element.dataset.text, element.dataset);
  }
}
