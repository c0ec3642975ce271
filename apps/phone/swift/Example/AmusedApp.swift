import AmusedLiteCore
import AmusedLiteCoreML
import SwiftUI

/// A sample: drag the bundles' folders (one for each style) into the app's resources as a folder named "Styles".
@main
struct AmusedApp: App {
    @State private var studio = AmusedApp.makeStudio()

    var body: some Scene {
        WindowGroup {
            if let studio {
                StudioView(studio: studio).task { studio.open() }
            } else {
                Text("No model found. Add bundles to the app's resources in a folder named Styles.").padding()
            }
        }
    }

    private static func makeStudio() -> Studio? {
        guard let resources = Foundation.Bundle.main.resourceURL?.appendingPathComponent("Styles") else { return nil }
        let found = (try? FileManager.default.contentsOfDirectory(at: resources, includingPropertiesForKeys: nil)) ?? []
        let styles = found.filter { FileManager.default.fileExists(atPath: $0.appendingPathComponent("manifest.json").path) }
        guard !styles.isEmpty else { return nil }
        let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
        return Studio(
            styles: styles.sorted { $0.lastPathComponent < $1.lastPathComponent },
            folder: documents.appendingPathComponent("Pictures")
        ) { try CoreMLEngine(bundle: $0) }
    }
}
