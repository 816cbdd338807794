// Making and changing elements. What the server says becomes text, never markup.

export const $ = (id) => document.getElementById(id);

/** An element: `el("td", { class: "number", text: "12" }, child, …)`; `on` holds listeners, other names are attributes. */
export function el(name, options = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") element.textContent = value;
    else if (key === "on") Object.entries(value).forEach(([type, listener]) => element.addEventListener(type, listener));
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function svg(name, attributes = {}, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Set a text only where it differs: a poll that brings nothing new touches nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A long text that may be cut off shows itself whole when it is pointed at. */
export function setLong(element, text) {
  setText(element, text);
  setAttribute(element, "title", text);
}

const rendered = new WeakMap();

/**
 * Make a parent's children follow a list. A child stays the same element while its item's key is listed, so that focus,
 * selection and what is being clicked survive a poll; while somebody is inside, the order stays too.
 */
export function follow(parent, items, keyOf, create, update) {
  const before = rendered.get(parent) ?? new Map();
  const after = new Map();
  let added = false;
  for (const item of items) {
    const key = keyOf(item);
    let child = before.get(key);
    if (child === undefined) {
      child = create(item);
      added = true;
    }
    update(child, item);
    after.set(key, child);
  }
  for (const [key, child] of before) if (!after.has(key)) child.remove();
  rendered.set(parent, after);
  const busy = parent.contains(document.activeElement) || parent.matches(":hover");
  if (busy && !added) return;
  let place = parent.firstElementChild;
  for (const child of after.values()) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}
