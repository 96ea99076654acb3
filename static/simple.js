// The smallest example: each message of the stream becomes a list item. The server is one folder up.
const source = new EventSource("../stream");
const list = document.getElementById("events");

source.onmessage = ({ data }) => {
  const item = document.createElement("li");
  item.textContent = `message: ${data}`;
  list.append(item);
  // A page that stays open must not grow for ever.
  if (list.childElementCount > 200) list.firstElementChild.remove();
};
