// Says so if the asset cannot be shown.
"use strict";

const asset = document.getElementById("asset");
asset.addEventListener("error", () => {
  document.getElementById("failure").hidden = false;
});
