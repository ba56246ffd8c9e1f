"""Result pages: folders of samples as offline HTML."""
