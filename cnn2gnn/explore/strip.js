// A strip of neighbours: click an image to walk there, untick an edge to switch it off.
function bar(share, colour) {
  const row = document.createElement("div");
  row.className = "cnn2gnn-bar";
  const fill = document.createElement("div");
  fill.style.width = `${50 * Math.abs(share.length)}%`;
  fill.style.left = share.length < 0 ? `${50 - 50 * Math.abs(share.length)}%` : "50%";
  fill.style.background = colour;
  fill.classList.toggle("hatched", share.hatched);
  row.title = share.text;
  row.append(fill);
  return row;
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "cnn2gnn-strip";
  el.append(root);
  let count = 0;
  const act = (action) => {
    // the count makes two equal clicks two actions
    model.set("action", { ...action, count: ++count });
    model.save_changes();
  };
  const card = (item, position) => {
    const box = document.createElement("div");
    box.className = "cnn2gnn-neighbour" + (item.on ? "" : " off");
    const image = document.createElement("img");
    image.src = item.image;
    image.title = `${item.title}: walk there`;
    image.style.borderColor = item.frame;
    image.onclick = () => act({ kind: "walk", position });
    const caption = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = item.on;
    tick.title = "edge on or off";
    tick.onchange = () => act({ kind: "switch", position, on: tick.checked });
    caption.append(tick, item.caption);
    const text = document.createElement("div");
    text.textContent = item.text;
    box.append(image, caption, text, ...item.bars.map((share) => bar(share, share.colour)));
    return box;
  };
  const draw = () => root.replaceChildren(...model.get("items").map(card));
  model.on("change:items", draw);
  draw();
}

export default { render };
