/** The shell command that follows a stream, and copying. */

// Between double quotes, the shell puts in the variable: a token that is copied ends up in its history.
const AUTHORIZATION = ' -H "Authorization: Bearer $TOKEN"';

/**
 * The shell command for an address, with quoted arguments.
 * @param {URL} url @param {boolean} [withToken] with a placeholder for one
 */
export function commandFor(url, withToken) {
  const words = ["curl", "-N", ...(url.search ? ["-G"] : []), url.origin + url.pathname];
  for (const [name, value] of url.searchParams) {
    words.push("--data-urlencode", `${encodeURIComponent(name)}=${value}`);
  }
  return words.map(quoted).join(" ") + (withToken ? AUTHORIZATION : "");
}

/**
 * Copy the text of an element. Returns what to tell the user.
 * @param {HTMLElement} shown
 */
export async function copyText(shown) {
  try {
    await navigator.clipboard.writeText(shown.textContent ?? "");
    return "Copied";
  } catch {
    // Browsers deny the clipboard to a page loaded over plain HTTP from another host: use execCommand.
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
  }
}

/**
 * Quote a word for a shell. Between single quotes, only the quote itself is special.
 * @param {string} word
 */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
